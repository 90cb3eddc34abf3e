"""What the loops rely on, through their own interface to a broker."""

import pytest

from shared.messaging.broker import Outgoing, Record, RecordSource
from tests.contract.conftest import Door
from tests.support.wait import eventually


def record(door: Door, number: int, key: str = "k") -> Outgoing:
    return Outgoing(door.topic, key.encode(), str(number).encode(), (("n", str(number).encode()),))


def write(door: Door, *records: Outgoing) -> None:
    assert door.open_sink().send(records) == [None] * len(records)


def read(source: RecordSource, count: int) -> list[Record]:
    """At least `count` records."""
    found: list[Record] = []

    def enough() -> bool:
        found.extend(source.poll(0.2))
        return len(found) >= count

    eventually(enough, what=f"{count} records")
    return found


def numbers(records: list[Record], key: str = "k") -> list[int]:
    return [int(item.value or b"") for item in records if item.key == key.encode()]


def test_records_of_a_key_come_in_the_order_of_writing(door: Door) -> None:
    keys = ["a", "b", "c", "d"]
    write(door, *(record(door, number, key) for number in range(10) for key in keys))
    found = read(door.open_source("g"), 40)
    assert len(found) == 40
    for key in keys:
        assert numbers(found, key) == list(range(10))
        assert len({item.partition for item in found if item.key == key.encode()}) == 1
    assert len({item.partition for item in found}) == 2, "both partitions are used"


def test_bytes_come_back_as_they_were(door: Door) -> None:
    headers = (("ce_id", b"\x00\xff"), ("twice", b"1"), ("twice", b"2"), ("empty", b""), ("größe", "ü".encode()))
    write(door, Outgoing(door.topic, b"\x00\xfe", bytes(range(256)), headers))
    (found,) = read(door.open_source("g"), 1)
    assert (found.key, found.value, found.headers) == (b"\x00\xfe", bytes(range(256)), headers)
    assert (found.topic, found.offset) == (door.topic, 0)


def test_a_group_goes_on_after_its_committed_offset(door: Door) -> None:
    write(door, *(record(door, number) for number in range(3)))
    first = door.open_source("g")
    found = read(first, 3)
    first.commit(found[:2])
    first.close()
    assert numbers(read(door.open_source("g"), 1)) == [2]


def test_what_was_not_committed_comes_again(door: Door) -> None:
    write(door, record(door, 1), record(door, 2))
    first = door.open_source("g")
    read(first, 2)
    first.close()
    assert numbers(read(door.open_source("g"), 2)) == [1, 2]


def test_groups_do_not_disturb_each_other(door: Door) -> None:
    write(door, record(door, 1))
    one = door.open_source("one")
    one.commit(read(one, 1))
    assert numbers(read(door.open_source("two"), 1)) == [1]


def test_a_reader_that_ends_at_once_leaves_its_group_usable(door: Door) -> None:
    write(door, record(door, 1))
    hasty = door.open_source("g")
    hasty.poll(0.1)
    hasty.close()
    assert numbers(read(door.open_source("g"), 1)) == [1]


def test_without_a_group_everything_is_read_each_time(door: Door) -> None:
    write(door, record(door, 1))
    assert numbers(read(door.open_source(None), 1)) == [1]
    write(door, record(door, 2))
    assert numbers(read(door.open_source(None), 2)) == [1, 2]


def test_the_end_is_known_and_not_before_it_is_read(door: Door) -> None:
    write(door, *(record(door, number, key) for number in range(5) for key in "ab"))
    source = door.open_source(None)
    found: list[Record] = []

    def at_end() -> bool:
        found.extend(source.poll(0.1))
        return source.at_end()

    eventually(at_end)
    assert len(found) == 10


def test_the_end_of_an_empty_topic_is_known(door: Door) -> None:
    source = door.open_source(None)

    def at_end() -> bool:
        assert source.poll(0.1) == []
        return source.at_end()

    eventually(at_end)


def test_a_reader_that_waits_gets_what_is_written_later(door: Door) -> None:
    source = door.open_source("g")
    assert source.poll(0.1) == []
    write(door, record(door, 1))
    assert numbers(read(source, 1)) == [1]


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_large_records_pass(door: Door, size: int) -> None:
    write(door, Outgoing(door.topic, b"k", b"x" * size, ()))
    (found,) = read(door.open_source("g"), 1)
    assert len(found.value or b"") == size


def test_the_lag_is_what_was_not_polled(door: Door) -> None:
    write(door, *(record(door, number) for number in range(600)))
    source, polled, lags = door.open_source("g"), 0, []
    while polled < 600:
        found = len(source.poll(0.2))
        polled += found
        if found:
            lags.append((polled, source.lag()[door.topic]))
    assert len(lags) > 1, "nothing takes all of it at once"
    assert [lag for _, lag in lags] == [600 - count for count, _ in lags]
