"""The one judge of topics: whether what consumers read is what the design promises.

Pure: records and what is expected of them come in, findings go out, a line each with
topic, partition and offset. It imports nothing of the bridge. A single record's form is
for `tests.kit.record_form`, the records of one gap are for `tests.kit.gap_judge`.
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from tests.kit.expected import Expected, Kind, ReadTopic
from tests.kit.gap_judge import Gap, read_gaps
from tests.kit.reader import Record
from tests.kit.record_form import Form


_RANKS = {"processing": 0, "in_progress": 1, "done": 2, "error": 2}
_TERMINAL = {"done", "error"}
_REFUSED = ("topic", "partition", "sequence")


@dataclass
class Verdict:
    """What was found."""

    findings: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


def home_of(key: bytes, partitions: int) -> int:
    """Give the partition of a key as Java's default partitioner does (murmur2)."""
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    whole = len(key) & ~3
    found = 0x9747B28C ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        mixed = word * multiplier & mask
        mixed = (mixed ^ mixed >> 24) * multiplier & mask
        found = found * multiplier & mask ^ mixed
    if key[whole:]:
        found = (found ^ int.from_bytes(key[whole:], "little")) * multiplier & mask
    found = (found ^ found >> 13) * multiplier & mask
    found ^= found >> 15
    return (found & 0x7FFFFFFF) % partitions


def judge(topics: Sequence[ReadTopic], expected: Expected) -> Verdict:
    """Judge the topics of a scene, each of which was read to its end."""
    verdict = Verdict()
    judged = _Judge(topics, expected, verdict)
    verdict.findings += judged.findings()
    return verdict


@dataclass(frozen=True)
class _Seen:
    """A record of the bridge's form, its topic and what its value says."""

    topic: ReadTopic
    record: Record
    value: Mapping[str, Any]

    @property
    def place(self) -> str:
        return _place(self.topic, self.record)

    @property
    def key(self) -> str:
        return (self.record.key or b"").decode()

    @property
    def ce_id(self) -> str:
        return self.text("ce_id")

    @property
    def lane(self) -> tuple[str, str, int]:
        return self.text("bridge_outbox"), self.topic.name, self.record.partition

    @property
    def sequence(self) -> int:
        return int(self.record.headers["bridge_sequence"])

    @property
    def anomalies(self) -> set[str]:
        return set(self.text("bridge_anomaly").split(",")) - {""}

    @property
    def refused(self) -> tuple[str, int, int] | None:
        """Topic, partition and number that a dead letter's record would have had."""
        texts = [self.text(f"bridge_refused_{name}") for name in _REFUSED]
        return (texts[0], int(texts[1]), int(texts[2])) if all(texts) else None

    def text(self, header: str) -> str:
        return self.record.headers.get(header, b"").decode()


def _place(topic: ReadTopic, record: Record) -> str:
    return f"{topic.name} {record.partition}/{record.offset}"


class _Judge:
    """One scene's judgment: which records have the form, and what follows."""

    def __init__(
        self, topics: Sequence[ReadTopic], expected: Expected, verdict: Verdict
    ) -> None:
        self._topics = topics
        self._expected = expected
        self._verdict = verdict
        self._once: dict[str, _Seen] = {}
        self._salvaged: list[_Seen] = []

    def findings(self) -> Iterator[str]:
        """Judge each record, then what they say together."""
        for topic in self._topics:
            form = Form(topic, self._expected)
            for record in topic.records:
                found, value = form.check(record)
                place = _place(topic, record)
                yield from (f"{place}: {line}" for line in found)
                if value is not None:
                    yield from self._identity(_Seen(topic, record, value))
        yield from self._density()
        yield from self._partitions()
        yield from self._courses()
        yield from self._completeness()
        yield from self._commits()
        yield from self._letters()
        yield from self._previews()
        yield from self._ledger()
        yield from self._sums()

    def _of(self, kind: Kind) -> list[_Seen]:
        return [each for each in self._once.values() if each.topic.kind is kind]

    def _identity(self, seen: _Seen) -> Iterator[str]:
        """An identity names one record; the same record again is a repeat."""
        first = self._once.setdefault(seen.ce_id, seen)
        if first is seen:
            return
        both = f"{first.place} and {seen.place}"
        salvaged = self._expected.salvaged and first.lane != seen.lane
        if salvaged:
            self._salvaged.append(seen)
        if _content(first, salvaged=salvaged) != _content(seen, salvaged=salvaged):
            yield f"{seen.ce_id} is the identity of two records: {both}"
            return
        line = f"{seen.ce_id} is at {both}"
        self._verdict.repeats.append(line)
        if not self._expected.repeats and "resent" not in seen.anomalies:
            yield f"repeated: {line}"

    def _density(self) -> Iterator[str]:
        """Each outbox numbers its records of a partition 1, 2, 3, ... in order."""
        named: defaultdict[tuple[str, str, int], set[int]] = defaultdict(set)
        for letter in self._of(Kind.DEAD_LETTERS):
            refused = letter.refused
            if refused is not None:
                to, partition, number = refused
                named[letter.text("bridge_outbox"), to, partition].add(number)
        lanes: defaultdict[tuple[str, str, int], list[_Seen]] = defaultdict(list)
        for seen in (*self._once.values(), *self._salvaged):
            lanes[seen.lane].append(seen)
        for lane in lanes.keys() | named.keys():
            outbox, topic, partition = lane
            numbers: dict[int, _Seen] = {}
            last = 0
            for seen in sorted(lanes[lane], key=lambda each: each.record.offset):
                number = seen.sequence
                twin = numbers.setdefault(number, seen)
                if number in named[lane]:
                    yield f"sequence {number} was refused, and is at {seen.place}"
                elif twin is not seen:
                    yield f"sequence {number} is used twice: {twin.place}, {seen.place}"
                # What was lost by Kafka comes again behind what was left.
                elif number < last and "resent" not in seen.anomalies:
                    yield f"sequence {number} comes after {last} at {seen.place}"
                last = max(last, number)
            whole = set(range(1, max(numbers.keys() | named[lane]) + 1))
            for number in sorted(whole - numbers.keys() - named[lane]):
                yield f"sequence {number} of {outbox} is missing on {topic} {partition}"

    def _partitions(self) -> Iterator[str]:
        """A key is on one partition of a topic, and Java would choose it too."""
        homes: dict[tuple[str, str], _Seen] = {}
        for seen in self._once.values():
            if seen.record.key is None:
                continue
            partition = seen.record.partition
            first = homes.setdefault((seen.topic.name, seen.key), seen)
            if first.record.partition != partition:
                both = f"{first.place}, {seen.place}"
                yield f"key {seen.key} is on two partitions: {both}"
            right = {home_of(seen.record.key, n) for n in seen.topic.partitions}
            if first is seen and partition not in right:
                yield f"key {seen.key} belongs on {sorted(right)}, not at {seen.place}"

    def _courses(self) -> Iterator[str]:
        """Each job only goes forward, and ends once."""
        courses: defaultdict[tuple[str, str], _Course] = defaultdict(_Course)
        for seen in self._of(Kind.JOBS):
            if not seen.anomalies & {"resent", "replayed"}:
                yield from courses[seen.text("ce_source"), seen.key].add(seen)

    def _completeness(self) -> Iterator[str]:
        """Of what was accepted each event is there once, in order, and no other."""
        accepted = self._expected.accepted
        if accepted is None:
            return
        found: defaultdict[str, list[tuple[object, _Seen]]] = defaultdict(list)
        for seen in self._of(Kind.JOBS):
            if seen.text("bridge_origin") in {"socket", "replay"}:
                event = self._expected.label(seen.record.value or b"")
                found[seen.key].append((event, seen))
        for key in found.keys() - accepted.keys():
            yield f"job {key} at {found[key][0][1].place} was never accepted"
        for key, events in accepted.items():
            yield from _in_order(key, events, found[key])
        there = {key: [event for event, _ in pairs] for key, pairs in found.items()}
        missing = list(self._missing(accepted, there))
        if self._expected.missing == 0:
            yield from missing
        elif self._expected.missing not in {None, len(missing)}:
            yield f"{len(missing)} events are missing, not {self._expected.missing}"

    def _missing(
        self,
        accepted: Mapping[str, Sequence[object]],
        there: Mapping[str, Sequence[object]],
    ) -> Iterator[str]:
        """Name the events that are neither on `jobs` nor a dead letter."""
        letters: defaultdict[str | bytes | None, list[str]] = defaultdict(list)
        for each in self._of(Kind.DEAD_LETTERS):
            # A truncated one has the digest of the whole.
            name = each.text("bridge_sha256") or each.record.value
            letters[name].append(each.key)
        for key, events in accepted.items():
            present = Counter(there.get(key, ()))
            for place, event in enumerate(events):
                is_there = _take(present, event) or _take_letter(letters, key, event)
                if not is_there and key not in self._expected.unsure:
                    yield f"lost: event {place} of job {key}"

    def _commits(self) -> Iterator[str]:
        """What an outbox's file showed is there, and is the same."""
        committed = self._expected.committed
        letters = self._of(Kind.DEAD_LETTERS)
        refused = {each.text("bridge_refused_ce_id") for each in letters}
        for ce_id, event in committed.items():
            seen = self._once.get(ce_id)
            if seen is None:
                if ce_id not in refused:
                    yield f"lost: {ce_id} was committed: {event!r:.100}"
                continue
            is_job = seen.topic.kind is Kind.JOBS
            value = seen.record.value or b""
            if (self._expected.label(value) if is_job else value) != event:
                yield f"{ce_id} at {seen.place} is another event than was committed"
        if self._expected.only_committed:
            for ce_id, seen in self._once.items():
                if seen.topic.kind is not Kind.GAPS and ce_id not in committed:
                    yield f"{ce_id} at {seen.place} was never seen in the outbox"

    def _letters(self) -> Iterator[str]:
        """There are as many dead letters of each reason as are expected."""
        letters = self._of(Kind.DEAD_LETTERS)
        reasons = Counter(letter.text("bridge_reason") for letter in letters)
        expected = self._expected.dead_letters
        for reason in sorted(reasons.keys() | expected.keys()):
            if expected.get(reason, 0) not in {None, reasons[reason]}:
                yield (
                    f"{reasons[reason]} dead letters {reason}, not"
                    f" {expected.get(reason, 0)}"
                )

    def _previews(self) -> Iterator[str]:
        """Each preview has an event that names it, and the other way round."""
        if Kind.PREVIEWS not in {topic.kind for topic in self._topics}:
            return
        header = "bridge_preview_sha256"
        images = {(each.key, each.text(header)) for each in self._of(Kind.PREVIEWS)}
        named = set()
        for seen in self._of(Kind.JOBS) + self._of(Kind.DEAD_LETTERS):
            if not seen.text(header):
                continue
            named.add((seen.key, seen.text(header)))
            if seen.topic.kind is Kind.DEAD_LETTERS:
                images.add((seen.key, seen.text(header)))
        for key, digest in sorted(named - images):
            if not self._expected.missing and self._expected.missing is not None:
                yield f"the preview {digest[:12]} of job {key} is missing"
        for key, digest in sorted(images - named):
            yield f"no event names the preview {digest[:12]} of job {key}"

    def _ledger(self) -> Iterator[str]:
        """Gaps open, close and are resolved, for the causes that are expected."""
        gaps, found = read_gaps([each.record for each in self._of(Kind.GAPS)])
        self._verdict.gaps = gaps
        yield from found
        still_open = [gap for gap in gaps if gap.until is None]
        if self._expected.open_gaps not in {None, len(still_open)}:
            yield from (f"never closed: {gap}" for gap in still_open)
            if not still_open:
                yield f"no gap is open, not {self._expected.open_gaps}"
        if self._expected.gaps is None:
            return
        causes: defaultdict[str, list[str]] = defaultdict(list)
        for gap in gaps:
            causes[gap.client_id].append(gap.cause)
        for account in sorted(causes.keys() | self._expected.gaps.keys()):
            wanted = list(self._expected.gaps.get(account, ()))
            pairs = zip_longest(causes[account], wanted, fillvalue="")
            if any(cause not in each.split("|") for cause, each in pairs):
                yield f"gaps of {account}: {causes[account]}, not {wanted}"

    def _sums(self) -> Iterator[str]:
        """Counts add up, and are what an independent reader counts."""
        counts = self._expected.counts
        if counts is None:
            return
        for each in counts:
            went = each.published + each.dead_lettered + each.dropped + each.waiting
            if each.came != went:
                yield f"{each.came} came and {went} are accounted for: {each}"
        if not self._expected.all_counted:
            return
        published = sum(each.published - each.resent for each in counts)
        there = len(self._of(Kind.JOBS)) + len(self._of(Kind.PREVIEWS))
        if published != there:
            yield f"{published} records were counted as published, {there} are there"
        letters = sum(each.dead_lettered for each in counts)
        there = len(self._of(Kind.DEAD_LETTERS))
        if letters != there:
            yield f"{letters} dead letters were counted, {there} are there"


def _content(seen: _Seen, *, salvaged: bool) -> tuple[object, ...]:
    """What a repeat must have in common with the first one."""
    record = seen.record
    others = {"bridge_anomaly"}
    if salvaged:
        others |= {"bridge_outbox", "bridge_sequence"}
    headers = {
        name: text for name, text in record.headers.items() if name not in others
    }
    marks = seen.anomalies - {"resent"}
    where = seen.topic.name, record.partition, record.key
    return *where, record.value, headers, marks


def _in_order(
    key: str, events: Sequence[object], found: Sequence[tuple[object, _Seen]]
) -> Iterator[str]:
    """Say which events of a job are foreign, there twice, or out of order."""
    places: defaultdict[object, list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        places[event].append(place)
    last = -1
    for event, seen in found:
        ahead = next((place for place in places[event] if place > last), None)
        if not places[event]:
            yield f"job {key} at {seen.place}: no such event was accepted"
        elif seen.anomalies & {"resent", "replayed"}:
            continue
        elif ahead is not None:
            last = ahead
        elif places[event][-1] == last:
            yield f"job {key}: event {last} is there twice, at {seen.place}"
        else:
            yield f"job {key}: event {places[event][-1]} behind {last} at {seen.place}"


def _take(counter: Counter[Any], name: object) -> bool:
    """Use up one of a multiset, where there is one."""
    there = counter[name] > 0
    counter[name] -= there
    return there


def _take_letter(
    letters: Mapping[str | bytes | None, list[str]], key: str, event: object
) -> bool:
    """Use up the dead letter that has an event's bytes, or their digest."""
    if not isinstance(event, bytes):
        return False
    for name in (event, hashlib.sha256(event).hexdigest()):
        keys = letters.get(name, [])
        # A key may be found or not where the value isn't a JSON object.
        found = [each for each in keys if each == key or "" in {each, key}]
        if found:
            keys.remove(max(found, key=len))
            return True
    return False


class _Course:
    """What a job's records have said so far: how far it is, whether it has ended."""

    def __init__(self) -> None:
        self._furthest = 0, Decimal(0)
        self._last: bytes | None = None
        self._end: _Seen | None = None
        self._counters: dict[bytes, int] = {}

    def add(self, seen: _Seen) -> Iterator[str]:
        """Say what is wrong with its next record."""
        yield from self._progress(seen)
        is_same = self._last == seen.record.value
        if is_same and not seen.anomalies:
            yield f"job {seen.key}: {seen.place} is an unmarked duplicate"
        if not is_same and "duplicate" in seen.anomalies:
            yield f"job {seen.key}: {seen.place} isn't a duplicate"
        self._last = seen.record.value
        if seen.text("bridge_origin") == "socket":
            process, _, counter = seen.record.headers["ce_id"].partition(b"-")
            if int(counter) < self._counters.get(process, 0):
                yield f"job {seen.key}: {seen.place} was read before its predecessor"
            self._counters[process] = int(counter)

    def _progress(self, seen: _Seen) -> Iterator[str]:
        """Without a mark it only goes forward, and its end is its last record."""
        status, progress = seen.value["status"], seen.value["progress"]
        if self._end is not None:
            if "regression" not in seen.anomalies:
                end = self._end.place
                yield f"job {seen.key}: {status} at {seen.place} after its end {end}"
            return
        if status in _TERMINAL:
            self._end = seen
        rank, furthest = self._furthest
        if _RANKS[status] > rank:
            furthest = Decimal(0)
        # Null says nothing.
        reached = _RANKS[status], furthest if progress is None else Decimal(progress)
        if reached < self._furthest and not seen.anomalies:
            yield f"job {seen.key}: {status} at {seen.place} is a step back"
        self._furthest = max(reached, self._furthest)
