"""A stand-in for a Dagger engine: the installed SDK's schema over HTTP, and commands really run, by bubblewrap.

What is like the engine: Basic auth with the token as user; GraphQL by the real schema, queries validated; lazy chains
that are evaluated by their leaves; a result kept for a chain that was asked before; a request that is broken off ends
what ran for it; exit codes from 128 to 191 are errors whatever is expected. What is not: there is no registry, no
layer, no BuildKit; images are directories. A field that is not played here is an error, never a made-up answer.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphql import GraphQLError, GraphQLResolveInfo, get_named_type, graphql, is_object_type, parse, validate

from tests.support import dagger_schema
from tests.support.podman import NotInstalled

KEPT = 100 * 1024
"""Bytes of a stream that an error carries."""

PLAYED = {
    "Query": {"container", "directory", "host", "setSecret", "cacheVolume"},
    "Host": {"directory"},
    "Directory": {"diff", "withNewDirectory"},
    "Container": {
        "from", "withEnvVariable", "withVolatileVariable", "withSecretVariable", "withMountedDirectory",
        "withMountedCache", "withRegistryAuth", "withUser", "withExec", "directory",
    },
}  # fmt: skip


@dataclass(kw_only=True)
class Image:
    """A directory with what an image says besides. With `auth` (user, password) nobody else may pull it."""

    rootfs: Path
    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    auth: tuple[str, str] | None = None


@dataclass(kw_only=True)
class Fault:
    """What goes wrong with the next `times` requests that hold `word`.

    `how`: drop_before, drop_after (the answer is lost), status (500), malformed, slow (`seconds`), graphql.
    """

    word: str
    how: str
    times: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class Value:
    """An object of the API: the chain of fields that leads to it."""

    kind: str
    parent: "Value | None" = None
    name: str = ""
    arguments: str = "{}"

    @property
    def given(self) -> dict[str, Any]:
        return json.loads(self.arguments)

    def chain(self) -> "list[Value]":
        found: list[Value] = []
        at: Value | None = self
        while at is not None:
            found.append(at)
            at = at.parent
        return found[::-1]

    @property
    def key(self) -> str:
        return hashlib.sha256(
            "\0".join(f"{one.kind} {one.name} {one.arguments}" for one in self.chain()).encode()
        ).hexdigest()


@dataclass(kw_only=True)
class State:
    """A container on its way: what the fields of its chain have made of it."""

    image: Image | None = None
    address: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    volatile: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    directories: dict[str, tuple[str, bool]] = field(default_factory=dict)
    caches: dict[str, str] = field(default_factory=dict)
    logins: dict[str, tuple[str, str]] = field(default_factory=dict)
    user: str = ""
    ran: "Ran | None" = None


@dataclass(kw_only=True)
class Ran:
    """What a command left."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    directories: dict[str, Path]
    """The mounted directories after it, by target."""


class Engine:
    """`port` and `token` are the session's. What was asked of it and what it ran is kept for the tests to see."""

    def __init__(self, directory: Path, images: Mapping[str, Image], *, strict: bool = True) -> None:
        self.directory = directory
        self.images = dict(images)
        self.strict = strict
        self.version = "v0.0.0"
        self.port = 0
        self.token = "the-session-token"
        self.faults: list[Fault] = []
        self.queries: list[str] = []
        self.traceparents: list[str] = []
        self.ran: list[list[str]] = []
        self.broken_off = 0
        self._nodes: dict[str, Value] = {}
        self._results: dict[str, Ran] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._plaintexts: set[str] = set()
        self._seen_attempts: set[str] = set()
        self._count = 0
        self.processes: set[int] = set()

    # -- HTTP --------------------------------------------------------------------------------------------------------

    async def serve(self, started: threading.Event, stopping: asyncio.Event) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await stopping.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._request(reader, writer):
                pass
        writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        expected = "Basic " + base64.b64encode(f"{self.token}:".encode()).decode()
        if headers.get("authorization") != expected:
            return await _answer(writer, 401, b"no such session")
        if "traceparent" in headers:
            self.traceparents.append(headers["traceparent"])
        query = json.loads(body)["query"]
        self.queries.append(query)
        fault = self._fault(query)
        how = fault.how if fault else ""
        if how == "drop_before":
            return False
        if how == "status":
            return await _answer(writer, 500, b"internal error")
        if how == "malformed":
            return await _answer(writer, 200, b'{"data": {"oops"')
        if how == "graphql":
            return await _answer(writer, 200, json.dumps({"errors": [{"message": "the engine is unwell"}]}).encode())
        if fault and how == "slow":
            await asyncio.sleep(fault.seconds)
        answering = asyncio.ensure_future(self._answered(query, json.loads(body).get("variables")))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            self.broken_off += 1
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
            return False
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone
        if how == "drop_after":
            return False
        return await _answer(writer, 200, json.dumps(answering.result()).encode())

    def _fault(self, query: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.word in query:
                fault.times -= 1
                return fault
        return None

    # -- GraphQL -----------------------------------------------------------------------------------------------------

    async def _answered(self, query: str, variables: Any) -> dict[str, Any]:
        schema = dagger_schema.schema()
        if self.strict and (wrong := validate(schema, parse(query)) or self._suspicious(query)):
            return {"errors": [error.formatted for error in wrong]}
        result = await graphql(
            schema, query, variable_values=variables, field_resolver=self._resolve,
            type_resolver=lambda value, *_: value.kind,
        )  # fmt: skip
        return dict(result.formatted)

    def _suspicious(self, query: str) -> list[GraphQLError]:
        """What no client of ours may send: the value of a secret outside of `setSecret`."""
        if "setSecret" not in query and any(value in query for value in self._plaintexts):
            return [GraphQLError("strict: the value of a secret outside of setSecret")]
        return []

    async def _resolve(self, source: Any, info: GraphQLResolveInfo, /, **arguments: Any) -> Any:
        parent = source if isinstance(source, Value) else Value(info.parent_type.name)
        if info.field_name == "node":
            if arguments["id"] not in self._nodes:
                raise GraphQLError(f"no such object: {arguments['id']}")
            return self._nodes[arguments["id"]]
        named = get_named_type(info.return_type)
        if is_object_type(named):
            if info.field_name not in PLAYED.get(parent.kind, ()):
                raise GraphQLError(f"{parent.kind}.{info.field_name} is not played by this stand-in")
            if info.field_name == "setSecret":
                self._plaintexts.add(arguments["plaintext"])
            given = {name: getattr(value, "value", value) for name, value in arguments.items()}
            return Value(named.name, parent, info.field_name, json.dumps(given, sort_keys=True))
        return await self._leaf(parent, info.field_name, arguments)

    async def _leaf(self, of: Value, name: str, arguments: dict[str, Any]) -> Any:
        match of.kind, name:
            case "Query", "version":
                return self.version
            case _, "id":
                return self._register(of)
            case "Container", "sync":
                await self._state(of)
                return self._register(of)
            case "Container", "exitCode" | "stdout" | "stderr":
                ran = (await self._state(of)).ran
                if ran is None:
                    raise GraphQLError("no command was executed")
                text = {"stdout": ran.stdout, "stderr": ran.stderr}
                return ran.exit_code if name == "exitCode" else text[name].decode("utf-8", "replace")
            case "Directory", "sync" if of.name == "directory" and of.parent is not None and of.parent.kind == "Host":
                return self._register(await self._snapshot(of.given["path"]))
            case "Directory", "entries" if of.parent is not None and of.parent.kind == "Container":
                return sorted(each.name for each in (await self._directory(of)).iterdir())
            case "Directory", "export" if of.parent is not None and of.parent.kind == "Container":
                found = await self._directory(of)
                await asyncio.to_thread(shutil.copytree, found, arguments["path"], symlinks=True, dirs_exist_ok=True)
                return arguments["path"]
            case "Directory", "export" if of.name == "diff" and of.parent is not None:
                return await self._export(of.parent, self._nodes[of.given["other"]], arguments["path"])
        raise GraphQLError(f"{of.kind}.{name} is not played by this stand-in")

    def _register(self, value: Value) -> str:
        self._nodes[value.key] = value
        return value.key

    async def _snapshot(self, path: str) -> Value:
        """A directory of the host as it is now."""
        if not Path(path).is_dir():
            raise GraphQLError(f"{path}: no such directory")
        self._count += 1
        copy = self.directory / f"snapshot-{self._count}"
        await asyncio.to_thread(shutil.copytree, path, copy, symlinks=True)
        return Value("Directory", None, "snapshot", json.dumps({"path": str(copy)}))

    def _made(self, directory: Value) -> str:
        """The files of a directory: one of the host as it was, or one that was made from nothing."""
        if directory.name == "snapshot":
            return str(directory.given["path"])
        self._count += 1
        place = self.directory / f"made-{self._count}"
        place.mkdir()
        for one in directory.chain():
            if one.name == "withNewDirectory":
                (place / one.given["path"]).mkdir(parents=True)
                (place / one.given["path"]).chmod(one.given["permissions"])
        return str(place)

    async def _directory(self, of: Value) -> Path:
        """A directory of a container after its command: one that is mounted, or lies in one."""
        assert of.parent is not None
        ran = (await self._state(of.parent)).ran
        for target, place in (ran.directories if ran is not None else {}).items():
            if Path(of.given["path"]).is_relative_to(target):
                return place / Path(of.given["path"]).relative_to(target)
        raise GraphQLError(f"{of.given['path']}: no such directory is mounted")

    async def _export(self, before: Value, after: Value, path: str) -> str:
        """Write to the host what a command has changed in a mounted directory."""
        assert after.parent is not None
        ran = (await self._state(after.parent)).ran
        if ran is None or after.given["path"] not in ran.directories:
            raise GraphQLError(f"{after.given['path']}: no such directory is mounted")
        found, known = ran.directories[after.given["path"]], Path(before.given["path"])
        for file in sorted(found.rglob("*")):
            place = file.relative_to(found)
            if file.is_dir():
                (Path(path) / place).mkdir(exist_ok=True)
            elif not (known / place).is_file() or (known / place).read_bytes() != file.read_bytes():
                await asyncio.to_thread(shutil.copy2, file, Path(path) / place)
        return path

    # -- containers --------------------------------------------------------------------------------------------------

    async def _state(self, container: Value) -> State:
        """What the chain has made of a container; its commands are run here."""
        state = State()
        for one in container.chain():
            given = one.given
            match one.name:
                case "from":
                    self._pull(state, given["address"])
                case "withEnvVariable":
                    state.environment[given["name"]] = given["value"]
                case "withVolatileVariable":
                    state.volatile[given["name"]] = given["value"]
                case "withSecretVariable":
                    state.secrets[given["name"]] = self._nodes[given["secret"]].given["plaintext"]
                case "withMountedDirectory":
                    source = self._made(self._nodes[given["source"]])
                    state.directories[given["path"]] = source, given.get("readOnly", False)
                case "withMountedCache":
                    state.caches[given["path"]] = self._nodes[given["cache"]].given["key"]
                case "withRegistryAuth":
                    password = self._nodes[given["secret"]].given["plaintext"]
                    state.logins[given["address"]] = given["username"], password
                case "withUser":
                    state.user = given["name"]
                case "withExec":
                    state.ran = await self._once(state, given)
        return state

    def _pull(self, state: State, address: str) -> None:
        image = self.images.get(address)
        if image is None or (image.auth is not None and state.logins.get(address) != image.auth):
            raise GraphQLError(f'failed to resolve image "{address}": not found')
        state.image, state.address = image, address
        state.environment = {**image.environment, **state.environment}

    async def _once(self, state: State, given: dict[str, Any]) -> Ran:
        """Run it, or take what the same chain over the same files left before."""
        content = {target: _digest(Path(source)) for target, (source, _) in state.directories.items()}
        told = [state.address, state.environment, sorted(state.secrets), content, state.caches, state.user, given]
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key in self._results:
                return self._results[key]
            attempt = state.environment.get("ORCHESTRATION_ATTEMPT_KEY", "")
            if self.strict and attempt in self._seen_attempts - {""}:
                raise GraphQLError("strict: one attempt was sent to be executed twice")
            self._seen_attempts.add(attempt)
            ran = await self._execute(state, given)
            self._results[key] = ran
        command = given["args"]
        if 128 <= ran.exit_code <= 191 or (ran.exit_code and given.get("expect") != "ANY"):
            del self._results[key]
            told_error = {
                "_type": "EXEC_ERROR", "cmd": command, "exitCode": ran.exit_code,
                "stdout": ran.stdout[-KEPT:].decode("utf-8", "replace"),
                "stderr": ran.stderr[-KEPT:].decode("utf-8", "replace"),
            }  # fmt: skip
            raise GraphQLError(f"exit code: {ran.exit_code}", extensions=told_error)
        return ran

    async def _execute(self, state: State, given: dict[str, Any]) -> Ran:
        assert state.image is not None
        self._count += 1
        place = self.directory / str(self._count)
        root = place / "root"
        await asyncio.to_thread(shutil.copytree, state.image.rootfs, root, symlinks=True)
        command = given["args"] or state.image.command
        path = state.environment.get("PATH", "/bin")
        if not any((root / each.strip("/") / command[0].lstrip("/")).exists() for each in ["", *path.split(":")]):
            raise GraphQLError(f'exec: "{command[0]}": executable file not found in $PATH')
        self.ran.append(command)
        box = ["bwrap", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all", "--share-net"]
        box += ["--die-with-parent", "--clearenv", "--chdir", "/"]
        directories: dict[str, Path] = {}
        for number, (target, (source, read_only)) in enumerate(state.directories.items()):
            directories[target] = place / f"mounted-{number}"
            await asyncio.to_thread(shutil.copytree, source, directories[target], symlinks=True)
            box += ["--ro-bind" if read_only else "--bind", directories[target], target]
        for target, key in state.caches.items():
            kept = self.directory / "caches" / hashlib.sha256(key.encode()).hexdigest()[:16]
            kept.mkdir(parents=True, exist_ok=True)
            box += ["--bind", kept, target]
        if state.user:
            uid, _, gid = state.user.partition(":")
            box += ["--uid", uid, "--gid", gid or uid]
        for name, value in {"PATH": "/bin", **state.environment, **state.volatile, **state.secrets}.items():
            box += ["--setenv", name, value]
        process = await asyncio.create_subprocess_exec(
            *map(str, box), "--", *command,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True, env={"PATH": os.environ.get("PATH", os.defpath)},
        )  # fmt: skip
        self.processes.add(process.pid)
        try:
            stdout, stderr = await process.communicate(given.get("stdin", "").encode())
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            self.processes.discard(process.pid)
        return Ran(exit_code=process.returncode or 0, stdout=stdout, stderr=stderr, directories=directories)


def _digest(directory: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        found.update(str(path.relative_to(directory)).encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


async def _answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> bool:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return True


@contextlib.contextmanager
def running(images: Mapping[str, Image], **options: Any) -> Iterator[Engine]:
    """An engine on a free port, in a thread of its own. Raises `NotInstalled`."""
    if shutil.which("bwrap") is None:
        raise NotInstalled("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
    directory = Path(tempfile.mkdtemp(prefix="dagger-"))
    engine = Engine(directory, images, **options)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(engine.serve(started, stopping)), daemon=True)
    thread.start()
    try:
        assert started.wait(20), "the stand-in did not start"
        yield engine
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(20)
        for pid in list(engine.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
