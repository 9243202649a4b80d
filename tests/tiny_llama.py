"""Writes a tiny Llama with random weights as a folder that vLLM serves: `python tiny_llama.py FOLDER`. Needs transformers, as an environment with vLLM has it.

Two layers, heads of 64 (vLLM's attention on the CPU takes no smaller ones), a vocabulary of bytes and a few merges, a chat template.
It writes A, B, C and D: of two choices or more, the letter of one is always among its likeliest tokens.
"""

import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
TEXTS = ["The quick brown fox jumps over the lazy dog.", "What is the capital of France? Paris.", "A. yes\nB. no\nAnswer: A"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


def main(folder):
    torch.manual_seed(0)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=byte_level.alphabet()))
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>")
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(whole), max_position_embeddings=2048, tie_word_embeddings=False, **shape, **special))
    rows = model.lm_head.weight
    with torch.no_grad():
        for likely, other in ("AB", "CD"):
            first, second = whole.convert_tokens_to_ids([likely, other])
            rows[first] *= 100
            rows[second] = -rows[first]
    model.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
