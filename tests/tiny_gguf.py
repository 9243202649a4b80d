"""Writes a tiny Llama with random weights: `python tiny_gguf.py FILE`. Needs the package gguf, which `make llama-server` installs.

Two layers, a vocabulary of bytes and a few merges, no BOS token. It never ends a text by itself, so that it writes as many tokens as it may,
and only ASCII, which comes back as it was written; mostly capitals, so that some are among the likeliest tokens.
"""

import sys

import gguf
import numpy as np

WIDTH, INNER, HEADS, LAYERS, CONTEXT = 64, 128, 4, 2, 512
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_characters():
    """How GPT-2 writes each byte as a printable character."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + number) for number, byte in enumerate(others)}


def main(path):
    characters = byte_characters()
    space = characters[ord(" ")]
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    merges = [*(f"{space} {letter}" for letter in letters), "t h", "th e", "i n", "a n", f"{space} the"]
    names = [*SPECIAL, *characters.values(), *(merge.replace(" ", "") for merge in merges)]
    rng = np.random.default_rng(0)

    def weights(*shape, scale=0.05):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    output = weights(len(names), WIDTH, scale=0.5)
    for number, name in enumerate(names):
        if number < len(SPECIAL) or not all(character == space or "!" <= character <= "~" for character in name):
            output[number] = 0
        elif name[0] == space and name[1:] in letters:
            output[number] *= 2

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(names))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types([gguf.TokenType.CONTROL if name in SPECIAL else gguf.TokenType.NORMAL for name in names])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token("--bos" in sys.argv)
    writer.add_chat_template("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:")
    writer.add_tensor("token_embd.weight", weights(len(names), WIDTH, scale=1.0))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(WIDTH, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_gate.weight", weights(INNER, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", weights(INNER, WIDTH))
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", weights(WIDTH, INNER))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
