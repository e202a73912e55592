"""Notebooks 4 to 6: right answers, which differ in how they are built."""

import asyncio
import hashlib
import json
from base64 import urlsafe_b64encode
from functools import partial
from urllib.parse import urlencode


def now():
    return asyncio.get_running_loop().time()


# 4.1 -------------------------------------------------------------------------------------------


def pair_as_json(name, arguments):
    return json.dumps([name, arguments], sort_keys=True)


def dict_of_both(name, arguments):
    return json.dumps({"name": name, "arguments": arguments}, sort_keys=True)


def compact_and_not_escaped(name, arguments):
    text = json.dumps(arguments, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return name + "\0" + text


def blake(name, arguments):
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    digest.update(b"\0")
    digest.update(json.dumps(arguments, sort_keys=True).encode())
    return digest.hexdigest()


encode = partial(json.JSONEncoder(sort_keys=True, check_circular=False).encode)


def by_an_encoder(name, arguments):
    return urlsafe_b64encode(encode((name, arguments)).encode()).decode()


def as_a_query(name, arguments):
    pairs = sorted((each, json.dumps(arguments[each], sort_keys=True)) for each in arguments)
    return f"{name}?{urlencode(pairs)}"


def written(value):
    match value:
        case dict():
            return (
                "{" + ",".join(f"{each!r}:{written(value[each])}" for each in sorted(value)) + "}"
            )
        case list():
            return "[" + ",".join(map(written, value)) + "]"
        case None | bool() | int() | float() | str():
            return repr(value)
        case _:
            raise TypeError(f"{type(value).__name__} cannot be written down")


def by_recursion(name, arguments):
    return f"{name}({written(arguments)})"


class Keys:
    """A callable that checks first, and writes afterwards."""

    def __call__(self, name, arguments):
        self.refuse(arguments)
        return f"{name} {json.dumps(arguments, sort_keys=True)}"

    def refuse(self, value):
        if isinstance(value, dict):
            for each, item in value.items():
                if not isinstance(each, str):
                    raise TypeError(each)
                self.refuse(item)
        elif isinstance(value, list):
            for item in value:
                self.refuse(item)
        elif value is not None and not isinstance(value, str | int | float):
            raise TypeError(value)


def checks_and_writes(name, arguments):
    return Keys()(name, arguments)


RIGHT = {
    "4.1": (
        pair_as_json,
        dict_of_both,
        compact_and_not_escaped,
        blake,
        by_an_encoder,
        as_a_query,
        by_recursion,
        checks_and_writes,
    ),
}
