"""What the logs of OpenAI-compatible servers say when a start fails, and what to do. The first pattern that is found counts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Root causes stand before what follows from them: vLLM ends every failure with "Engine core initialization failed".
CAUSES: Mapping[str, str] = MappingProxyType(
    {
        r"(?i)invalid literal for int\(\) with base 10: '(GPU|MIG)-": (
            "this vLLM knows GPUs by number only, and a MIG instance has none. Use vLLM 0.24 or later."
        ),
        r"(?i)(CUDA|cudaMalloc failed:) out of memory|OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|Free memory on device .* is less than desired": (
            "the GPU's memory is too small, or others use it. Lower server.gpu_memory_utilization or server.max_model_len, take a smaller or quantised "
            "model, or more GPUs (server.tensor_parallel and `gpus`); `gpueval gpus` shows who uses them."
        ),
        r"(?i)KV cache .*(needed|larger|not enough)|No available memory for the cache blocks|max seq len .* larger than the maximum number": (
            "the KV cache does not hold one request of the model's full length. Set server.max_model_len lower, or raise server.gpu_memory_utilization."
        ),
        r"(?i)GatedRepoError|gated repo|Access to model .* is restricted": "the model is gated. Accept its licence on the Hub, and set HF_TOKEN.",
        r"(?i)OfflineModeIsEnabled|LocalEntryNotFoundError|couldn't connect to .*huggingface|outgoing traffic has been disabled": (
            "the model is not in the cache and cannot be fetched. Fetch it first where there is a network, set HF_HOME to where it is, "
            "or give a folder as server.model."
        ),
        r"(?i)RepositoryNotFoundError|is not a valid model identifier|Model path does not exist|failed to open GGUF|No such file or directory.*gguf": (
            "there is no such model. server.model is a Hub repository (owner/name), or the path of a folder or file that exists here."
        ),
        r"(?i)unknown (model )?architecture|Model architectures .* (are not supported|failed to be inspected)|does not recognize this architecture": (
            "this server does not know the model's architecture. Update it, or set server.trust_remote_code if the model brings code that you trust."
        ),
        r"(?i)invalid magic|failed to load model from file|SafetensorError|HeaderTooLarge": (
            "the model's file is damaged, or of another format. Fetch it again, and compare its hash."
        ),
        r"(?i)Bfloat16 is only supported on GPUs|dtype .* (is )?not (a )?(valid|supported)|unsupported dtype|argument --dtype: invalid choice": (
            "the GPU or the server cannot do this data type. Set server.dtype to 'half' or 'float32'."
        ),
        r"(?i)quantization .*(not supported|does not match|unknown|minimum capability)|Unknown quantization": (
            "this quantisation is not supported here, or is not the model's. Set server.quantization to the model's own, or leave it out."
        ),
        r"(?i)trust_remote_code=True|requires you to execute .* code": "the model brings code. If you trust it, set server.trust_remote_code.",
        r"(?i)World size .* is larger than the number of available GPUs|tensor parallel size .*(GPU|divisible)|must be divisible by tensor parallel size": (
            "server.tensor_parallel fits neither the GPUs nor the model. Set it, and `gpus` of the runtime, to a number that divides the model's heads."
        ),
        r"(?i)No CUDA GPUs are available|Failed to infer device type|CUDA driver version is insufficient|no CUDA-capable device": (
            "the server finds no GPU. See `gpueval gpus`, and whether it is a build for this driver."
        ),
        r"(?i)address already in use|error while attempting to bind on address": "the port is taken. Leave server.port out: a free one is taken then.",
        r"ModuleNotFoundError: No module named|: No module named ": (
            "a Python package is missing in the environment that the server runs in. Install it there, or name another interpreter or server.binary."
        ),
        r"(?i)unrecognized arguments|error: argument ": "the server does not know an option. See server.arguments or server.argv, and the server's version.",
        r"(?i)Bus error|No space left on device": (
            "the shared memory or the disk is full. In a container, give it more shared memory (--shm-size, --ipc=host)."
        ),
        r"(?i)Illegal instruction": "the server was built for another kind of CPU. Build it for this one.",
        r"gpueval supervisor: .*: No such file or directory": "there is no such program. Give its whole path, or install it.",
    }
)
