"""Texts of records in Redis: the fast path writes and reads the same as JSON."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.backends.redis import record_codec
from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.tenants import Tenant
from extauthz.service.directory.entry import Entry
from tests.generated import examples
from tests.unit.service.fakes import KEY, TENANT
from tests.unit.service.test_row_formats import keys, organizations

CODED = record_codec.key_text(KEY).encode()
PLACES = st.integers(0, len(CODED) - 1)
BYTES = st.sampled_from(b'"{}[],:\\0159.eE+- \x00\xffnultrabcd')


def meaning(text: bytes, digest: str) -> ApiKey | str:
    """What plain JSON reads."""
    try:
        record = json.loads(text)
        if not isinstance(record, dict):
            return "nonsense"
        key = ApiKey.from_record(record)
    except (ValueError, RecursionError):
        return "nonsense"
    return key if key.digest == digest else "nonsense"


def read(text: bytes, digest: str) -> ApiKey | str:
    try:
        return record_codec.read_key(text, digest)
    except (ValueError, RecursionError):
        return "nonsense"


@given(keys())
@examples(16, 2000)
def test_a_key_is_written_as_its_record(entry: Entry[Credential, ApiKey]) -> None:
    """Character by character the JSON of `to_record`, which any release can read."""
    key = entry.record
    assert record_codec.key_text(key) == json.dumps(key.to_record(), separators=(",", ":"))


@given(organizations())
@examples(16, 2000)
def test_an_organization_is_written_as_its_record(entry: Entry[str, Tenant]) -> None:
    """Character by character the JSON of `to_record`, which any release can read."""
    tenant = entry.record
    assert record_codec.tenant_text(tenant) == json.dumps(tenant.to_record(), separators=(",", ":"))


@given(keys())
@examples(30, 4000)
def test_a_key_is_read_as_json_would(entry: Entry[Credential, ApiKey]) -> None:
    """The same key, or an error in both: no value is accepted that the record would reject."""
    text, digest = record_codec.key_text(entry.record).encode(), entry.record.digest
    assert read(text, digest) == meaning(text, digest)


@given(st.lists(st.tuples(PLACES, BYTES), min_size=1, max_size=3), st.randoms())
@examples(30, 20_000)
def test_a_torn_text_is_read_as_json_would(changes: list[tuple[int, int]], chance: random.Random) -> None:
    """Bytes changed, put in or left out, wherever they stand."""
    text = bytearray(CODED)
    for place, byte in changes:
        match chance.choice(("change", "insert", "delete")):
            case "change":
                text[place % len(text)] = byte
            case "insert":
                text.insert(place, byte)
            case _:
                del text[place % len(text)]
    assert read(bytes(text), KEY.digest) == meaning(bytes(text), KEY.digest)


@pytest.mark.parametrize(
    "text",
    [
        CODED.replace(b'"plan":', b'"id":"another","plan":'),
        CODED.replace(b'"plan":', b'"version":1,"plan":'),
        CODED[:-1] + b',"tenant":{"id":"another","loaded_at":1,"version":1}}',
        CODED[:-1] + b',"revoked_at":1}',
        CODED[:-2] + b',"more":{}}}',
        CODED[:-1] + b',"more":{"a":{}}}',
        CODED.replace(b'"version":7', b'"version":07'),
        CODED.replace(b'"version":7', b'"version":9999999999999999999'),
        CODED.replace(b'"loaded_at":', b'"loaded_at":1e400,"x":'),
        CODED.replace(b'"expires_at":null', b'"expires_at":1e400'),
        json.dumps(KEY.to_record()).encode(),
        json.dumps(dict(reversed(KEY.to_record().items()))).encode(),
    ],
)
def test_texts_of_others(text: bytes) -> None:
    """Repeated, additional and reordered names are read as JSON does."""
    assert read(text, KEY.digest) == meaning(text, KEY.digest)


def test_equal_parts_are_one_object() -> None:
    """Equal permissions and limits of keys are one object, and so are policies of their organizations."""
    first, second = (
        record_codec.read_key(
            record_codec.key_text(replace(KEY, id=name, tenant=replace(TENANT, version=number))).encode(), KEY.digest
        )
        for number, name in enumerate("ab")
    )
    assert first.permissions is second.permissions
    assert first.limits is second.limits
    assert first.tenant.limits is second.tenant.limits
