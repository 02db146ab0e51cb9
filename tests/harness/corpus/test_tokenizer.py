import json

import numpy as np
import pytest
import tokenizers

from allometry.errors import InputError
from allometry.harness.corpus.tokenizer import byte_encoder, file_encoder, train_bpe

TEXTS = ["the cat sat on the mat, the cat\n", "größer als 10 €\n", "the the the cat mat 漢字"] * 20


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    path.write_bytes(train_bpe(TEXTS, vocab_size=300))
    return path


def test_bytes_are_the_text_without_its_nul():
    encoder = byte_encoder()
    assert bytes(encoder.encode("gr\0ö€").tolist()).decode() == "grö€"
    assert encoder.vocab_size == 256


def test_a_trained_bpe_gives_back_every_text(bpe):
    encoder = file_encoder(bpe)
    tokenizer = tokenizers.Tokenizer.from_file(str(bpe))
    for text in [*TEXTS, "never seen: ÿ \U0001f600\t\n"]:
        numbers = encoder.encode(text)
        assert tokenizer.decode(numbers.tolist()) == text
        assert numbers.max() < encoder.vocab_size <= 300
    assert len(encoder.encode("the cat")) < len("the cat")


def test_training_a_bpe_twice_gives_the_same_file(bpe):
    assert train_bpe(iter(TEXTS), vocab_size=300) == bpe.read_bytes()


def test_the_name_of_a_special_token_inside_a_text_is_text(bpe):
    encoder = file_encoder(bpe)
    assert encoder.end_of_text not in np.asarray(encoder.encode("a <|endoftext|> b"))


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(InputError, match="at least 257, got 256"):
        train_bpe(TEXTS, vocab_size=256)


def test_bad_tokenizer_files_are_named(tmp_path, bpe):
    with pytest.raises(InputError, match="no such tokenizer"):
        file_encoder(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match=r"bad\.json: not a tokenizer"):
        file_encoder(tmp_path / "bad.json")
    document = json.loads(bpe.read_text().replace("<|endoftext|>", "<|other|>"))
    (tmp_path / "endless.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="no token that ends a text"):
        file_encoder(tmp_path / "endless.json")
