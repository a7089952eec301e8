"""Names from data: one safe part of a path, or refused with a printable stand-in."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import ConfigError, SourceError, full_disk
from storage.names import MAX_NAME_BYTES, check_name, name_fault, safe_name
from storage.sources.contract import LogRef
from storage.sources.raw_files import raw_data_of


@pytest.mark.parametrize(
    "name",
    ["2021.05.12.22.00.38_veh-35_01008_01518", "Grüße aus Köln", "a b", "日本", "-x", "a" * 180],
)
def test_blanks_umlauts_and_real_names_are_welcome(name):
    assert check_name(name) == safe_name(name) == LogRef(name, "train", (), ()).log_id == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".versions", "a/b", "/a", "a\\b", "a\0", "a\n", "\x7f", "\x85", "\ud800", " "],
)
def test_what_is_no_safe_part_of_a_path_is_refused_and_quoted_in_ascii(name):
    for refuse in (check_name, lambda name: LogRef(name, "train", (), ())):
        with pytest.raises(SourceError, match="cannot be used in a path") as caught:
            refuse(name)
        assert str(caught.value).isascii()
    assert safe_name(name) != name and check_name(safe_name(name))
    with pytest.raises(ConfigError):
        check_name(name, error=ConfigError)


def test_the_length_counts_in_bytes():
    assert name_fault("ü" * 90) is None and name_fault("ü" * 91) == "182 bytes"
    assert MAX_NAME_BYTES == 180


def test_a_split_of_another_name_is_refused():
    with pytest.raises(SourceError, match="unknown split"):
        LogRef("a", "training", (), ())


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_the_stand_in_of_any_name_is_a_safe_printable_name_of_its_own(name):
    shown = safe_name(name)
    assert name_fault(shown) is None and (shown == name or shown.isascii())
    assert safe_name(shown) == shown
    (shown + "~").encode()


def test_names_that_look_alike_have_stand_ins_of_their_own():
    assert len({safe_name(name) for name in ("a/b", "a\\b", "a\0b", "a_b")}) == 4


@pytest.mark.parametrize("number", ["EACCES", "EIO", "ESTALE", "ELOOP", "ENAMETOOLONG"])
def test_a_raw_file_that_cannot_be_read_is_an_error_of_its_log(number):
    with (
        pytest.raises(SourceError, match=rf"log a, /raw/x[\s\S]*{number}"),
        raw_data_of("a", "images"),
    ):
        raise OSError(getattr(errno, number), "it failed", "/raw/x")


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EMFILE", "ENFILE"])
def test_a_full_disk_and_too_many_open_files_are_no_error_of_a_log(number):
    with pytest.raises(OSError, match="it failed"), raw_data_of("a", "images"):
        raise OSError(getattr(errno, number), "it failed", "/raw/x")


def test_a_full_disk_is_told_by_its_number_not_by_the_name_of_a_file():
    assert full_disk(OSError(errno.ENOSPC, "full", "/lake/x")).where == "/lake/x"
    assert full_disk(RuntimeError("No space left on device (os error 28)")) is not None
    assert full_disk(PermissionError(errno.EACCES, "no", "/raw/No space left on device")) is None


def test_a_message_passes_no_terminal_code_and_no_surrogate_on():
    message = str(SourceError("a\x1b[2J", where="b\udcff", found="c" * 9000))
    assert message.startswith("a\\x1b[2J\n  where: b\\udcff") and "(9000 characters)" in message
    message.encode()
