"""Proposes a mapping for what a sample holds, and asks what cannot be known from it."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from streams.errors import SlatestreamError
from streams.field_names import means, verdict
from streams.mapping.inspect import Inspected, Place

Ask = Callable[[str, str, Sequence[str], str | None], str]
"""Asks for the value of a name: its question, what it may be, what it is taken to be; see `Answers`."""

_USER = r"(user|customer|client|member|visitor|reader|viewer|account|profile|person|subscriber|player|who)"
_ITEM = (
    r"(item|product|sku|article|content|movie|film|track|song|video|asin|document|news|offer|book|game|listing"
    r"|isbn|ean)"
)
_NUMBERED = r"(_?(id|number|no|nr|key|uuid|code|ref))?"
NAMES: Mapping[str, Sequence[str]] = {
    "user_id": (rf"^{_USER}_(id|uuid)$", rf"^{_USER}{_NUMBERED}$", rf"{_USER}{_NUMBERED}$",
                r"^uid$", r"session_?(id)?$"),
    "item_id": (rf"^{_ITEM}_(id|uuid)$", rf"^{_ITEM}{_NUMBERED}$", rf"{_ITEM}{_NUMBERED}$",
                r"object_(id|sku)$"),
    "timestamp_ms": (r"^timestamp(_ms)?$", r"(event|sent|occurred|created)_?(at|time|ts|on)$",
                     r"^(ts|time|at|date|datetime)$", r"(time|timestamp|_ts|_at|date)(_ms)?$"),
    "event_id": (r"^event_?(id|uuid)$", r"^(id|uuid|guid)$", r"(message|trace|transaction)_?id$"),
    "request_id": (r"^(request|slate|recommendation|rec)_?id$",),
    "action": (r"^(action|event_?type|event_?name|interaction)$", r"^(type|event|verb|kind|name)$",
               r"action$"),
    "position": (r"^(position|rank|slot|pos)$", r"_(position|rank)$"),
    "dwell_ms": (r"^(dwell|dwell_time|read|duration|watch)_?ms$",),
    "title": (r"^(title|name|headline|label)$", r"_(title|name|headline)$", r"(title|headline)"),
    "text": (r"^(text|description|body|abstract|summary|teaser|lead|excerpt|standfirst|content|plot)$",),
    "published_ms": (r"(published|released|publish|release)(_at|_on|_date|_ms)?$", r"^(created|date)(_at)?$"),
}  # fmt: skip
"""What names of places mean, the surest first."""
ACTIONS: Mapping[str, str] = {
    "view": r"view|seen|see|impression|shown|show|display|visit|page|vist|visning|angesehen|vue$",
    "click": r"click|open|tap|select|detail|read|listen|play|watch|start|klik|klick|clic",
    "purchase": r"purchase|bought|buy|order|checkout|paid|transaction|complete"
    r"|k[øoö]p|k[øo]b|kauf|koop|achat|compra|acquist",
    "like": r"like|fav|love|save|bookmark|cart|wish|share|follow|up_?vote",
    "dislike": r"dislike|hide|skip|remove|down_?vote|not_interested|report",
}
MAX_ACTIONS = 24
SAYS_NOTHING = {"name", "title", "label", "value", "text", "id", "code", "key"}
"""Last parts of places whose part before says what they are: performer.name."""
MIN_SAMPLE = 20
"""Records of which a value that is the same in all of them tells nothing about an item."""
MAX_OF_ATTRIBUTE = 0.8  # share of distinct values above which a text says what an item is, not of what kind


@dataclass(slots=True)
class Proposal:
    """A source as it will be written: lines of TOML by field, and what to say of each."""

    topic: str
    feeds: str
    envelope: str = "none"
    each: str | None = None
    repartition: str | None = None
    where: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    key: str | None = None

    def toml(self) -> str:
        """Return the source's table with comments that say what can be changed."""
        lines = ["[[source]]", f"topic = {_quoted(self.topic)}"]
        lines += [f'feeds = "{self.feeds}"  # clicks, content, users or requests']
        if self.envelope != "none":
            lines.append(f'envelope = "{self.envelope}"  # paths lead into its data; $event is the envelope')
        if self.key is not None:
            lines.append(f"key = {_quoted(self.key)}  # names what a null value deletes")
        if self.repartition is not None:
            lines.append(f"# {self.repartition}:")
            lines.append("# a group of its own copies it into our topic, by our keys.")
            lines.append("repartition = true")
        if self.each is not None:
            lines.append(f"each = {_quoted(self.each)}  # one event for each element: @ in paths")
        if self.where:
            lines.append("# Only records of which all of this holds; also is_not, exists, at_least, at_most.")
            lines.append(f"where = [{', '.join(self.where)}]")
        lines += ["", "[source.fields]"]
        for name, text in self.fields.items():
            note = self.notes.get(name)
            lines += [f"# {line}" for line in (note or "").splitlines()]
            lines.append(f"{name} = {text}")
        return "\n".join(lines) + "\n"


def propose(found: Inspected, topic: str, ask: Ask, *, feeds: str | None, actions: Sequence[str]) -> Proposal:
    """Propose a source of a topic.

    Parameters
    ----------
    feeds : what it feeds; asked where it is None
    actions : that the settings define

    Raises
    ------
    SlatestreamError
        If the sample holds nothing to be mapped.
    """
    if not found.records:
        if not found.unread:
            raise SlatestreamError(f"{topic} holds no record to look at")
        raise SlatestreamError(
            f"{topic}: none of the {found.unread} records sampled is a JSON object; "
            "files of rows, such as CSV, are read by `slatestream import`"
        )
    if feeds is None:
        question = f"What do the records of {topic} tell?"
        feeds = ask("feeds", question, ("clicks", "content", "users", "requests"), _feeds(found))
    proposal = Proposal(topic, feeds, found.envelope)
    if feeds == "clicks" and _in_each(found):
        proposal.each = found.each
    chooser = _Chooser(found, ask, proposal)
    {"clicks": _clicks, "content": _content, "users": _users, "requests": _requests}[feeds](chooser, actions)
    return proposal


class _Chooser:
    """Chooses places for fields; each is taken once."""

    def __init__(self, found: Inspected, ask: Ask, proposal: Proposal) -> None:
        self.proposal = proposal
        self._ask = ask
        inside = proposal.each is not None
        self.places = {
            path: place for path, place in found.places.items() if inside or not path.startswith("@")
        }
        self.records = found.records
        self.taken: set[str] = set()

    def best(self, name: str, fits: Callable[[Place], bool] = lambda place: True) -> Place | None:
        """The place whose name means the field most surely; of several, one of `each`, then the shortest."""
        ranked = [
            (rank, not path.startswith("@"), path.count("."), len(path), path)
            for path, place in self.places.items()
            for rank, pattern in enumerate((*NAMES[name], *self._more(name, path)))
            if path not in self.taken
            and (re.search(pattern, place.name) or re.search(pattern, place.last))
            and fits(place)
        ] or [
            (0, not path.startswith("@"), path.count("."), len(path), path)
            for path, place in self.places.items()
            if path not in self.taken
            and means(place.parts, name.removesuffix("_ms") if name == "timestamp_ms" else name)
            and fits(place)
        ]
        return self.places[min(ranked)[-1]] if ranked else None

    def _more(self, name: str, path: str) -> Sequence[str]:
        """Further names of the field there: an item's own record, or part, calls its id just `id`."""
        alone = self.proposal.feeds == "content" or path.startswith("@")
        return (r"^(id|uuid|guid|key|code|ref)$",) if name == "item_id" and alone else ()

    def ask(self, name: str, question: str, choices: Sequence[str], guess: str | None) -> str:
        return self._ask(name, question, choices, guess)

    def put(self, name: str, place: Place, text: str | None = None) -> None:
        self.taken.add(place.path)
        self.proposal.fields[name] = text or _quoted(place.path)

    def id(self, name: str, what: str) -> Place:
        """Choose an id; asked where no name means it."""
        scalars = {path for path, place in self.places.items() if place.all_are(str, int)}
        guess = self.best(name, lambda place: place.path in scalars)
        path = self.ask(
            name, f"Where is {what}?", sorted(scalars - self.taken), guess.path if guess else None
        )
        place = self.places.get(path) or Place(path)
        as_text = place.values and not place.all_are(str)
        self.put(name, place, f'{{ path = {_quoted(path)}, as = "text" }}' if as_text else None)
        if as_text:
            self.proposal.notes[name] = "Our ids are texts: numbers become their digits."
        return place

    def time(self, name: str, *, needed: bool) -> None:
        """Choose a time with its unit."""
        place = self.best(name, lambda place: place.unit is not None)
        if place is None and needed:
            place = next(
                (one for path, one in self.places.items() if one.unit and path not in self.taken), None
            )
        if place is not None and place.unit is not None:
            self.put(name, place, f'{{ path = {_quoted(place.path)}, unit = "{place.unit}" }}')
            self.proposal.notes[name] = "unit: s, ms, us, ns or iso (text; without a zone it is UTC)."
        elif needed:
            self.proposal.fields[name] = '"$timestamp"'
            self.proposal.notes[name] = "No time was found in the records: the broker's is taken."

    def optional(self, name: str, *kinds: type) -> None:
        """Take a place that means an optional field."""
        if (place := self.best(name, lambda place: place.all_are(*kinds))) is not None:
            self.put(name, place)


def _feeds(found: Inspected) -> str | None:
    names = _Chooser(found, lambda *_: "", Proposal("", "clicks", each=found.each))
    user, item = names.best("user_id"), names.best("item_id")
    if user is not None and item is not None:
        return "clicks"
    if names.best("title", lambda place: place.all_are(str)) is not None and user is None:
        return "content"
    return "users" if user is not None else None


def _in_each(found: Inspected) -> bool:
    """Whether the items lie in a list of objects, and nowhere else."""
    names = _Chooser(found, lambda *_: "", Proposal("", "clicks", each=found.each))
    item = names.best("item_id")
    return item is not None and item.path.startswith("@")


def _clicks(choose: _Chooser, actions: Sequence[str]) -> None:
    choose.id("user_id", "the id of the user")
    choose.id("item_id", "the id of the item")
    _action(choose, actions)
    choose.time("timestamp_ms", needed=True)
    _event_id(choose)
    choose.optional("request_id", str)
    if choose.proposal.each:
        choose.proposal.fields["position"] = '"$index"'
    else:
        choose.optional("position", int)
    choose.optional("dwell_ms", int, float)


def _event_id(choose: _Chooser) -> None:
    inside = choose.proposal.each is not None
    event = choose.best(
        "event_id", lambda place: place.distinct == len(place.values) and place.all_are(str, int)
    )
    if event is not None and event.path.startswith("@") == inside:
        text = None if event.all_are(str) else f'{{ path = {_quoted(event.path)}, as = "text" }}'
        choose.put("event_id", event, text)
        return
    template = "{$topic}-{$partition}-{$offset}" + ("-{$index}" if inside else "")
    choose.proposal.fields["event_id"] = f"{{ template = {_quoted(template)} }}"
    choose.proposal.notes["event_id"] = "No id of the event was found: its place in the topic is one."


def _action(choose: _Chooser, actions: Sequence[str]) -> None:
    known = ", ".join(actions)
    flags = (place for place in choose.places.values() if place.all_are(bool))
    flag = next((place for place in flags if re.search("click|open|tap|select", place.last)), None)
    if flag is not None:
        choose.taken.add(flag.path)
        choose.proposal.where.append(f"{{ path = {_quoted(flag.path)}, is = true }}")
        _constant(choose, actions, "click", f"Which action is a record whose `{flag.path}` is true?")
        return
    place = choose.best("action", lambda place: place.all_are(str, int) and place.distinct <= MAX_ACTIONS)
    place = place or next(filter(_are_verdicts, choose.places.values()), None)
    if place is None:
        _constant(choose, actions, "click", "Which action are these records?")
        return
    named = {str(value): _meant(str(value), actions) for value in place.values}
    values, out = {}, []
    for value, guess in sorted(named.items()):
        question = f"Which action is {place.path} = {value!r}? (none leaves its records out)"
        action = choose.ask(f"action.{value}", question, (*actions, "none"), guess or "none")
        if action == "none":
            out.append(value)
        else:
            values[value] = action
    listed = ", ".join(f"{_quoted(value)} = {_quoted(action)}" for value, action in values.items())
    text = f'{{ path = {_quoted(place.path)}, values = {{ {listed} }}, unlisted = "leave_out" }}'
    choose.put("action", place, text)
    choose.proposal.notes["action"] = f"Actions of the settings: {known}." + (
        f"\nLeft out: {', '.join(out)}." if out else ""
    )


def _constant(choose: _Chooser, actions: Sequence[str], guess: str, question: str) -> None:
    action = choose.ask("action", question, actions, guess if guess in actions else actions[0])
    choose.proposal.fields["action"] = f"{{ constant = {_quoted(action)} }}"
    choose.proposal.notes["action"] = f"Actions of the settings: {', '.join(actions)}."


def _are_verdicts(place: Place) -> bool:
    """Whether these are thumbs up and down, and both occur."""
    said = {verdict(str(value)) for value in place.values}
    return place.all_are(str, int) and None not in said and {"like", "dislike"} <= said


def _meant(value: str, actions: Sequence[str]) -> str | None:
    if value.lower() in actions:
        return value.lower()
    if (said := verdict(value)) in actions and said != "view":
        return said
    # What is disliked is named like what is liked, with something before it: so that comes first.
    for action in sorted(ACTIONS, key=lambda action: action != "dislike"):
        if action in actions and re.search(ACTIONS[action], value.lower()):
            return action
    return None


def _content(choose: _Chooser, actions: Sequence[str]) -> None:
    choose.id("item_id", "the id of the item")
    texts = {path: place for path, place in choose.places.items() if place.all_are(str)}
    guess = choose.best("title", lambda place: place.path in texts)
    path = choose.ask(
        "title", "Where is the title?", sorted(texts.keys() - choose.taken), guess.path if guess else None
    )
    choose.put("title", choose.places.get(path) or Place(path))
    choose.optional("text", str)
    choose.time("published_ms", needed=False)
    _attributes(choose)


def _users(choose: _Chooser, actions: Sequence[str]) -> None:
    choose.id("user_id", "the id of the user")
    for path, place in choose.places.items():
        if path not in choose.taken and place.unit is None and place.all_are(str, int, float, bool):
            name = _attribute(place, choose)
            choose.put(name, place, f'{{ path = {_quoted(path)}, as = "text" }}')


def _requests(choose: _Chooser, actions: Sequence[str]) -> None:
    choose.id("user_id", "the id of the user")
    choose.time("timestamp_ms", needed=True)
    if (place := choose.best("request_id")) or (place := choose.best("event_id")):
        choose.put("request_id", place)
    for path, place in choose.places.items():
        if (
            path not in choose.taken
            and place.all_are(int)
            and re.search(r"^(k|n|limit|count|size)$", place.last)
        ):
            choose.put("k", place)
            break


def _attribute(place: Place, choose: _Chooser) -> str:
    """Name an attribute by its last part that says something, and by a number beside where that is taken."""
    last, *before = reversed(place.parts)
    said = before[0] if before and last.lower() in SAYS_NOTHING else place.last
    bare = re.sub(r"\W+", "_", said, flags=re.ASCII).strip("_") or "attribute"
    names = (f"attributes.{bare}{'' if n == 1 else f'_{n}'}" for n in count(1))
    return next(name for name in names if name not in choose.proposal.fields)


def _attributes(choose: _Chooser) -> None:
    """Take what says of what kind an item is: texts that several items share, and lists of texts."""
    for path, place in choose.places.items():
        same = len(place.values) >= MIN_SAMPLE and place.distinct == 1
        if path in choose.taken or place.unit is not None or path.startswith("$") or same:
            continue
        name = _attribute(place, choose)
        if place.all_are(list) and all(isinstance(one, (str, int)) for held in place.values for one in held):
            choose.put(name, place, f'{{ path = {_quoted(path)}, as = "texts" }}')
        elif place.all_are(str) and (separator := _separator(place)) is not None:
            choose.put(name, place, f"{{ path = {_quoted(path)}, split = {_quoted(separator)} }}")
        elif place.all_are(str) and _is_shared(place):
            choose.put(name, place, f'{{ path = {_quoted(path)}, as = "texts" }}')


def _is_shared(place: Place) -> bool:
    short = all(len(value) <= 60 for value in place.values)
    return short and place.distinct <= max(1, MAX_OF_ATTRIBUTE * len(place.values))


def _separator(place: Place) -> str | None:
    """Return the separator that cuts these texts into short ones, some of which recur."""
    for separator in ("|", ";", ","):
        parts = [part.strip() for value in place.values for part in value.split(separator)]
        several = sum(separator in value for value in place.values) >= max(1, len(place.values) // 5)
        if several and all(len(part) <= 30 for part in parts) and len(set(parts)) < len(parts):
            return separator
    return None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
