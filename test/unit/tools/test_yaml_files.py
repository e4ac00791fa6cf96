"""Files of the operator's: what cannot be read is said with its place."""

import pytest

from tools.errors import ApplyError
from tools.yaml_files import mapping


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n"])
def test_where_there_is_nothing_it_is_empty(tmp_path, text):
    if text is not None:
        (tmp_path / "roster").write_text(text)
    assert mapping(tmp_path / "roster") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"relay:\n\thost: x\n", "roster, line 2: it is indented by a tab; YAML takes spaces."),
        (b"relay: \xff\n", "roster cannot be read: "),
        (b"{% if 1 %}\nrelay: {}\n{% endif %}\n", "roster has Jinja in it, which only Salt reads"),
        (b"- relay\n", "roster holds no mapping"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(tmp_path, text, said):
    (tmp_path / "roster").write_bytes(text)
    with pytest.raises(ApplyError) as refused:
        mapping(tmp_path / "roster")
    assert said in str(refused.value)
