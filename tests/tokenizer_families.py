"""Tokenizers of every family, trained here on a small mixed corpus, so that no test needs the network.

Also chat templates, and random text to try them on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Smoking: 8, Weight: 10, Exercise: 2. Answer: High Risk",
    "The quick brown fox jumps over the lazy dog; 3.14 + 2.72 = 5.86 and 1,000 - 1 = 999.",
    "Café crème à Zürich, naïve façade, São Paulo, Łódź, Ærøskøbing",
    "日本語のテキストと中文文本，还有更多的字。東京都は日本の首都です。",
    "Emoji 😀 👩‍👩‍👧 🇩🇪 ❤️ and symbols € £ ½ ﬁ ™",
    "مرحبا بالعالم שלום עולם нормальный текст ελληνικά",
    "def f(x):\n\treturn x ** 2\n\n  indented   text with   spaces\r\n",
    "high risk low risk middle risk 0 1 2 3 4 5 6 7 8 9 11 12 100",
] * 4

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]\n\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
)

WORDS = [word for line in CORPUS[:8] for word in line.split(" ")]
SPACE_MARKS = ("▁", "Ġ")

_SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]


def _finish(tokenizer: Tokenizer, bos: bool = False, eos: bool = False) -> PreTrainedTokenizerFast:
    """Wrap a trained backend; optionally its post-processor adds BOS and EOS."""
    if bos or eos:
        single = ("<s> " if bos else "") + "$A" + (" </s>" if eos else "")
        ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
        template = processors.TemplateProcessing(single=single, special_tokens=ids)
        parts = [tokenizer.post_processor, template] if tokenizer.post_processor else [template]
        tokenizer.post_processor = processors.Sequence(parts)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHATML,
    )


def byte_level(prefix_space: bool, trim: bool, bos: bool = False, eos: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2's and Llama 3's family."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=bos))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _finish(tokenizer, bos, eos)


def metaspace_bpe() -> PreTrainedTokenizerFast:
    """Llama 2's and Gemma's family: unknown characters become bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=_SPECIAL + fallback, limit_alphabet=60, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # The bytes must be ordinary tokens: only so does the model fall back to them, and no text is read as one.
    return _finish(tokenizer, bos=True)


def prepend_bpe() -> PreTrainedTokenizerFast:
    """Llama 2 as converted by transformers: a normalizer writes the metaspaces, nothing splits at them."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=_SPECIAL, show_progress=False)
    )
    return _finish(tokenizer, bos=True)


def unigram() -> PreTrainedTokenizerFast:
    """SentencePiece Unigram with its normalizer: NFKC, so one character may become several and several one."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _finish(tokenizer, eos=True)


def split_unigram() -> PreTrainedTokenizerFast:
    """T5's and XLM-R's family: words are split at their spaces first, and each gets a metaspace of its own."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _finish(tokenizer, eos=True)


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's family: lower case, accents off, [CLS] and [SEP], and no end-of-text token."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        chat_template=CHATML,
    )


def word_level() -> PreTrainedTokenizerFast:
    """One token per word, number and space mark, as the from-scratch models use; an added word strips its left."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=False)]
    )
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=_SPECIAL, show_progress=False))
    tokenizer.add_tokens([AddedToken("fox jumps", lstrip=True, rstrip=True)])
    return _finish(tokenizer)


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": lambda: byte_level(prefix_space=False, trim=False),
    "byte-level-trim": lambda: byte_level(prefix_space=False, trim=True),
    "byte-level-prefix": lambda: byte_level(prefix_space=True, trim=False, bos=True),
    "byte-level-prefix-trim": lambda: byte_level(prefix_space=True, trim=True, bos=True, eos=True),
    "metaspace-bpe": metaspace_bpe,
    "prepend-bpe": prepend_bpe,
    "unigram": unigram,
    "split-unigram": split_unigram,
    "wordpiece": wordpiece,
    "word-level": word_level,
}


@cache
def family(name: str) -> PreTrainedTokenizerFast:
    """One family's tokenizer, trained once in a session."""
    return FAMILIES[name]()


def inserted(tokenizer: PreTrainedTokenizerFast, text: str, token: str, start: int, end: int) -> bool:
    """Whether a token is a lone space mark that the text has no space for, as its tokenizer reads it."""
    if token not in SPACE_MARKS or start >= end:
        return False
    normalizer = tokenizer.backend_tokenizer.normalizer
    seen = text[start] + (normalizer.normalize_str(f"a{text[start]}a")[1:] if normalizer else "")
    return not any(c.isspace() or c in SPACE_MARKS for c in seen)


def texts(max_size: int = 8) -> st.SearchStrategy[str]:
    """Words that the tokenizers know, words that they do not, spaces of every kind, special tokens."""
    odd = ["<|im_start|>", "<|im_end|>", "</s>", "fox jumps", "ﬁ", "½", "e\u0301", "¨", "´", "¸", *SPACE_MARKS]
    known = st.sampled_from([*WORDS, *odd])
    unknown = st.text(st.characters(codec="utf-8"), max_size=4)
    spaces = st.sampled_from(["", " ", "  ", "\n", "\t", "\u3000", "\u00a0"])
    return st.lists(st.one_of(known, unknown, spaces, st.just(" ")), max_size=max_size).map("".join)
