"""Questions to a policy beside the one at run time, and its replacement while it runs."""

from __future__ import annotations

import json
import time
from functools import partial

import anyio
import pytest
from mcp_rbac import (
    METHODS,
    Change,
    Grant,
    Holders,
    LivePolicy,
    Policy,
    PolicyError,
    PolicyRejected,
    PolicyReplaced,
    Role,
    Subject,
    check_methods,
    load_file,
)

STAFF = Policy(
    roles={
        "viewer": Role(["tools/call:search_*"]),
        "editor": Role([Grant("tools/call:edit", when={"args.n": {"eq": 1}})], inherits=["viewer"]),
        "banned": Role(deny=["**"], inherits=["viewer"]),
    },
    users={"ann": ["editor"], "bob": ["viewer", "banned"]},
)


def test_explain():
    """Verdict, rule, way, and what would help, for a person to read."""
    assert STAFF.explain(Subject("ann", {"editor"}), "tools/call:search_x").splitlines() == [
        "ALLOWED tools/call:search_x to ann (roles: editor)",
        "  because: a rule allows it",
        "  rule: roles.viewer.allow[0]",
        "  through: editor → viewer",
        f"  policy: {STAFF.version}",
    ]
    assert STAFF.explain(Subject(), "tools/call:edit").splitlines() == [
        "DENIED tools/call:edit to someone (roles: none)",
        "  because: no rule allows it",
        "  would allow, any of the roles: editor",
        f"  policy: {STAFF.version}",
    ]
    assert STAFF.explain(Subject("ann", {"editor"}), "tools/call:edit", {"n": 1}).startswith("ALLOWED")


def test_explain_names_all_that_is_lacking():
    """Roles held and roles that would do, scopes, obligations: whoever reads it needs each of them."""
    grants = [Grant("x", scopes=["read", "write"]), Grant("y", obligations=["approve", "log"]), "z"]
    one = Policy(roles={"r": Role(grants[:2]), "s": Role(grants[2:]), "t": Role(grants[2:]), "idle": Role()})
    subject = Subject("ann", {"r", "idle"}, ())
    lines = {name: one.explain(subject, name).splitlines() for name in "xyz"}
    assert lines["x"][0] == "DENIED x to ann (roles: idle, r)"
    assert "  missing scopes: read write" in lines["x"]
    assert "  would allow, when done: approve, log" in lines["y"]
    assert "  would allow, any of the roles: s, t" in lines["z"]


def test_expect():
    """A policy's own test: silent when it holds, and otherwise all that does not, explained."""
    ann = Subject("ann", {"editor"})
    STAFF.expect(ann, allow=["tools/call:search_x", "tools/call:edit"], deny=["tools/call:drop"], arguments={"n": 1})
    with pytest.raises(AssertionError) as caught:
        STAFF.expect(ann, allow=["tools/call:drop", "tools/call:edit"], deny=["tools/call:search_x"])
    with pytest.raises(AssertionError, match="ALLOWED tools/call:edit"):
        STAFF.expect(ann, deny=["tools/call:edit"], arguments={"n": 1})
    assert [line for line in str(caught.value).splitlines() if line[:1].isalpha()] == [
        "DENIED tools/call:drop to ann (roles: editor)",
        "DENIED tools/call:edit to ann (roles: editor)",
        "ALLOWED tools/call:search_x to ann (roles: editor)",
    ]


def test_who_can_and_permissions_of():
    """Heirs counted, the denied left out, conditions kept apart."""
    assert STAFF.who_can("tools/call:search_x") == Holders(roles=("editor", "viewer"), users=("ann",))
    assert STAFF.who_can("tools/call:edit") == Holders((), (), ("editor",), ("ann",))
    assert STAFF.who_can("tools/call:drop") == Holders((), ())
    assert STAFF.permissions_of(STAFF.subject("ann")) == ("tools/call:edit", "tools/call:search_*")
    assert STAFF.permissions_of(STAFF.subject("bob")) == ()
    limited = Policy(roles=STAFF.dump()["roles"], scopes={"find": {"allow": ["tools/call:search_*"]}})
    assert limited.permissions_of(Subject(roles=["editor"], scopes=["find"])) == ("tools/call:search_*",)


def test_diff():
    """By role and by user, wildcards compared for what they stand for."""
    old = Policy(roles={"r": Role(["x:a/*"]), "gone": Role(["y"])}, users={"ann": ["r", "gone"]})
    new = Policy(roles={"r": Role(["x:a/**", Grant("y", obligations=["o"])])}, users={"ann": ["r"]})
    assert old.diff(new) == (
        Change("role", "gone", "y", "allowed", "denied"),
        Change("role", "r", "x:a/**", "denied", "allowed"),
        Change("role", "r", "y", "denied", "conditional"),
        Change("user", "ann", "x:a/**", "denied", "allowed"),
        Change("user", "ann", "y", "allowed", "conditional"),
    )
    assert old.diff(old) == ()
    assert Policy().diff(Policy(roles={"r": Role(["**"])})) == (Change("role", "r", "**", "denied", "allowed"),)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ((["x:*y"], ["x:b"]), (["x:*y"], ["x:a*"]), ("x:a*y", "allowed", "denied")),
        ((["x:**"], []), (["x:*/**"], []), ("x:*", "allowed", "denied")),
        ((["x:a/**"], []), (["x:a/*/**"], []), ("x:a/*", "allowed", "denied")),
        ((["**"], []), (["*/*:**"], []), ("**", "allowed", "denied")),
    ],
)
def test_diff_sees_parts_of_patterns(old, new, change):
    """What is lost where two patterns meet, or at one depth of ``**``, is lost all the same."""
    before, after = (Policy(roles={"r": Role(*rules)}) for rules in (old, new))
    assert Change("role", "r", *change) in before.diff(after)


def test_diff_tells_the_whole_once():
    """Not each of its parts, which change with it."""
    rules = ["x:a*", "x:*b", "x:c/**", "x:*/d/*"]
    found = Policy(roles={"r": Role(rules)}).diff(Policy(roles={"r": Role()}))
    assert [change.permission for change in found] == sorted(rules)


def test_diff_sees_a_new_constraint():
    """The rules are the same, and nobody who has both roles may use them any more."""
    roles = {"a": Role(["x"]), "b": Role(["y"])}
    old = Policy(roles=roles, users={"ann": ["a", "b"]})
    new = Policy(roles=roles, users={"ann": ["a", "b"]}, dsd=[{"roles": ["a", "b"]}])
    assert old.diff(new)[1:] == tuple(Change("user", "ann", name, "allowed", "denied") for name in "xy")


def test_denied_in_part_is_not_denied():
    """One depth of ``**`` that is left counts for the holder, and against the report that nothing is."""
    one = Policy(roles={"r": Role(["x:**"], deny=["x:*/**"])})
    assert one.permissions_of(Subject(roles=["r"])) == ("x:**",)
    assert one.lint() == ()
    none = Policy(roles={"r": Role(["x:**"], inherits=["s"]), "s": Role(deny=["x:*", "x:*/**"])})
    assert none.permissions_of(Subject(roles=["r"])) == ()
    assert [problem.place for problem in none.lint()] == ["roles.r.allow[0]"]


def test_lint():
    """What the server has and nobody may use, and the other way round; what is always denied."""

    class Tool:
        name = "search_web"

    one = Policy(
        roles={
            "a": Role(["tools/call:search_*", "tools/call:serch", "resources/read:docs://**", "prompts/get:hi"]),
            "b": Role(["tools/call:search_*"], inherits=["c"]),
            "c": Role(deny=["tools/call:*"]),
        }
    )

    class Template:
        uri_template, name = "mem://{y}", "hi"

    found = one.lint(
        [Tool(), {"name": "drop"}],
        prompts=["hi", {"name": "bye"}],
        resources=[{"uri": "docs://a", "name": "a"}, "mem://x", {"uriTemplate": "mem://{z}", "name": "z"}, Template()],
    )
    assert [str(problem) for problem in found] == [
        "tools/call:drop: no role is granted this",
        "roles.a.allow[1]: 'tools/call:serch' matches nothing that the server has",
        "prompts/get:bye: no role is granted this",
        "resources/read:mem://x: no role is granted this",
        "resources/read:mem://{y}: no role is granted this",
        "resources/read:mem://{z}: no role is granted this",
        "roles.b.allow[0]: 'tools/call:search_*' is denied to every holder of 'b'",
    ]
    assert STAFF.lint(["search_x", "edit"]) == ()


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("tool/call:x", "unknown method 'tool/call', did you mean 'tools/call'?"),
        ("acme/reindex", "unknown method 'acme/reindex'"),
        ("tools/call", "'tools/call' names no object, and every tools/call has one: 'tools/call:**' stands for all"),
        ("tools/list:x", "'tools/list:x' names an object, and tools/list has none: leave it out"),
        ("tasks/*:x", "unknown method 'tasks/*'"),
        ("completion/complete", ": completions belong to what they complete"),
        ("completion/*", "unknown method 'completion/*'"),
        ("ping/*", "unknown method 'ping/*'"),
        (
            "resources/read:DOCS://Host/x",
            "'resources/read:DOCS://Host/x' matches no URI: it is compared as 'docs://host/x'",
        ),
        ("resources/read:*://Host/x", "matches no URI: it is compared as 'x://host/x'"),
        ("resources/*:http://host:80/**", "matches no URI: it is compared as 'http://host/x'"),
        ("resources/read:docs://a%20b", "matches no URI: it is compared as 'docs://a b'"),
        ("resources/read:docs://a/../b", "matches no URI, since it has more than one reading"),
    ],
)
def test_methods_of_mcp(pattern, said):
    """A rule that no request can match is a slip of the pen, in a rule, an alias or a scope."""
    for parts in (
        {"roles": {"r": Role([pattern])}},
        {"roles": {"r": Role(["a"])}, "aliases": {"a": [pattern]}},
        {"scopes": {"s": {"allow": [pattern]}}},
    ):
        with pytest.raises(PolicyError) as caught:
            check_methods(Policy(**parts))
        assert said in str(caught.value)
        assert caught.value.problems[0].place in ("roles.r.allow[0]", "aliases.a", "scopes.s.allow")


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "tools/*:X",
        "*/*:X",
        "tools/call:v1.",
        "resources/read:http://host/a*",
        "resources/read:docs://*/b",
        "*/list",
        "tools/*",
        "resources/templates/list",
        "ping",
        "acme/x:y",
        "acme/x",
    ],
)
def test_methods_that_may_be_named(pattern):
    """Those of the protocol and those that were announced."""
    check_methods(Policy(roles={"r": Role([pattern])}), ["acme/x"])


@pytest.mark.parametrize("name", ["ping", "reindex", "reindex:all"])
def test_alias_named_like_a_method(name):
    """A rule that names the method would say something else, and more."""
    with pytest.raises(PolicyError) as caught:
        check_methods(Policy(aliases={name: ["**"], "read": ["tools/list"]}), ["reindex"])
    assert [str(one) for one in caught.value.problems] == [f"aliases.{name}: an alias is not named like a method"]
    check_methods(Policy(aliases={"reindex": ["**"], "ping me": ["**"]}))


def test_every_method_may_be_named():
    """Each with what it needs, but for completions."""
    for method in METHODS - {"completion/complete"}:
        with_object = Policy(roles={"r": Role([f"{method}:x"])})
        without = Policy(roles={"r": Role([method])})
        faults = 0
        for one in (with_object, without):
            try:
                check_methods(one)
            except PolicyError:
                faults += 1
        assert faults == 1, method


def one_role(*allow):
    return Policy(roles={"r": Role(list(allow))})


def test_reload_keeps_the_last_good_policy():
    """Whatever goes wrong, and it is told."""
    events = []
    loads = [one_role("x"), one_role("y"), OSError("gone"), PolicyError([]), "no policy", one_role("y"), one_role("z")]

    def load():
        found = loads.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def no_z(policy):
        if policy.allowed(Subject(roles={"r"}), "z"):
            raise ValueError("no z here")

    live = LivePolicy(load, validate=no_z, on_event=events.append)
    first = live.current.version
    assert [live.reload() for _ in range(6)] == [True, False, False, False, True, False]
    second = live.current.version
    assert events == [
        PolicyReplaced(first, second),
        PolicyRejected(second, "gone"),
        PolicyRejected(second, "0 problems in the policy\n"),
        PolicyRejected(second, "LivePolicy needs load to return a Policy, got 'no policy'"),
        PolicyRejected(second, "no z here"),
    ]


def test_first_policy_must_be_good():
    """There is none to fall back on."""
    with pytest.raises(OSError, match="nowhere"):
        LivePolicy(lambda: load_file("nowhere.json"))
    with pytest.raises(TypeError, match="needs load to return a Policy, got None"):
        LivePolicy(lambda: None)


async def later(*arguments):
    """An async function where a sync one is wanted, and the other way round."""


class Later:
    async def __call__(self, *arguments): ...


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"load": None}, "load to be a sync function, got None"),
        ({"load": one_role()}, "load to be a sync function, got <mcp_rbac.policy.Policy"),
        ({"load": Policy}, "load to be a sync function, got <class"),
        ({"load": later}, "load to be a sync function, got <function later"),
        ({"validate": later}, "validate to be a sync function, got <function later"),
        ({"validate": Later()}, "validate to be a sync function, got <"),
        ({"validate": partial(later, 1)}, "validate to be a sync function, got functools.partial"),
        ({"validate": 3}, "validate to be a sync function, got 3"),
        ({"validate": True}, "validate to be a sync function, got True"),
        ({"on_event": later}, "on_event to be a sync function, got <function later"),
        ({"on_event": 3}, "on_event to be a sync function, got 3"),
        ({"sleep": 3}, "sleep to be an async function, got 3"),
        ({"sleep": time.sleep}, "sleep to be an async function, got <built-in"),
        ({"sleep": None}, "sleep to be an async function, got None"),
        ({"sleep": Later}, "sleep to be an async function, got <class"),
    ],
)
def test_nonsense_live_policy(options, said):
    """At construction: a check that nobody waits for lets every policy pass."""
    with pytest.raises(TypeError) as caught:
        LivePolicy(**{"load": one_role, **options})
    assert f"LivePolicy needs {said}" in str(caught.value)


def test_validate_that_must_be_waited_for_refuses():
    """As behind a lambda, where it cannot be known before: what has not been checked is not taken."""

    class Promise:
        def __await__(self):
            yield

    with pytest.raises(TypeError, match="validate to be a sync function, and it returned <"):
        LivePolicy(one_role, validate=lambda policy: Promise())


def test_listener_that_fails_changes_nothing():
    """The policy is taken, or kept, all the same, and whoever asked is told which."""
    loads = [one_role("x"), one_role("y"), OSError("gone"), one_role("z")]

    def load():
        found = loads.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    heard = []

    def broken(event):
        heard.append(type(event).__name__)
        raise OSError("disk full")

    live = LivePolicy(load, on_event=broken)
    assert [live.reload() for _ in range(3)] == [True, False, True]
    assert live.current.version == one_role("z").version
    assert heard == ["PolicyReplaced", "PolicyRejected", "PolicyReplaced"]


def test_reload_without_listener():
    """Nobody needs to listen."""
    loads = [one_role("x"), one_role("y")]
    live = LivePolicy(lambda: loads.pop(0))
    assert live.reload()
    assert not live.reload()


async def test_no_decision_fails_while_policies_are_replaced(anyio_backend):
    """A thousand reloads under load: each decision is that of one policy or the other, both of which allow."""
    both = [one_role("x", "y"), one_role("x")]
    live = LivePolicy(lambda: both[0])
    failed, decided = [], 0

    async def decide():
        nonlocal decided
        while not done:
            policy = live.current
            decision = policy.decide(Subject("ann", {"r"}), "x")
            failed.extend([decision] if not decision.allowed or decision.version != policy.version else [])
            decided += 1
            await anyio.lowlevel.checkpoint()

    done = False
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(decide)
        for _ in range(1000):
            both.reverse()
            assert live.reload()
            await anyio.lowlevel.checkpoint()
        done = True
    assert not failed
    assert decided > 1000


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_watch(tmp_path, anyio_backend):
    """A file that changes is read again; one that goes is a failure, and one that comes back is not."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(one_role("x").dump()))
    events, changes = [], [one_role("y"), "the same", None, one_role("w")]

    def write(policy):
        path.write_text(json.dumps(policy.dump()))

    async def sleep(seconds):
        assert seconds == 2.5
        if not changes:
            raise EOFError
        change = changes.pop(0)
        if change == "the same":
            return
        path.unlink(missing_ok=True)
        if change:
            write(change)

    live = LivePolicy(lambda: load_file(path), on_event=events.append, sleep=sleep)
    versions = [one_role(name).version for name in "xuyw"]
    write(one_role("u"))  # before anybody watches
    with pytest.raises(EOFError):
        await live.watch(path, every=2.5)
    assert [getattr(event, "new", "rejected") for event in events] == [*versions[1:3], "rejected", versions[3]]


async def test_watch_looks_every_second_and_reads_what_has_changed(tmp_path):
    """What is as it was costs a look and no more."""
    path = tmp_path / "policy.json"
    path.write_text("{}")
    looked, loaded = [], []

    async def sleep(seconds):
        looked.append(seconds)
        if len(looked) > 2:
            raise EOFError

    live = LivePolicy(lambda: loaded.append(1) or one_role("x"), sleep=sleep)
    for options in ({}, {"every": 0.5}):
        looked.clear()
        with pytest.raises(EOFError):
            await live.watch(path, **options)
        assert looked == [options.get("every", 1.0)] * 3
    assert loaded == [1] * 3, "when it was made, and as each watch began"
    looked.clear()
    with pytest.raises(EOFError):
        await live.watch(tmp_path / "absent.json")
    assert loaded == [1] * 3, "there is nothing to read"


@pytest.mark.parametrize("every", [0, -1, float("nan")])
async def test_watch_needs_an_interval(every):
    """Zero would never let anyone else run."""
    with pytest.raises(ValueError, match="every > 0"):
        await LivePolicy(one_role).watch("x", every=every)


def test_load_file(tmp_path):
    """By the name, since neither format says what it is."""
    (tmp_path / "p.json").write_text('{"roles": {}}')
    (tmp_path / "p.toml").write_text("[roles]\n")
    assert load_file(tmp_path / "p.json").dump() == {}
    try:
        assert load_file(str(tmp_path / "p.toml")).dump() == {}
    except ModuleNotFoundError:
        pytest.skip("Python 3.10 has no tomllib")
    with pytest.raises(ValueError, match=r"reads \.json and \.toml, got 'policy.yaml'"):
        load_file("policy.yaml")
