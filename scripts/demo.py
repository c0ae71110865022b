"""`make demo`: starts an installation, then uses it as any client would: REST to submit, the WebSocket to watch.

With ONCE=1 it ends after the execution: status 0 when that completed, 1 when it did not.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parent.parent
SERVE = [sys.executable, str(ROOT / "manage.py"), "serve", "--prepare", "--verbosity", "0"]
KEPT = "demo-admin-password"
EXAMPLE = ROOT / "examples" / "sales-report.yaml"
STARTS_WITHIN = 180.0
ENDS_WITHIN = 300.0
TERMINAL = {"completed", "failed", "timed_out", "cancelled", "skipped"}
COLOURS = {"completed": "green", "failed": "red", "timed_out": "red", "cancelled": "yellow", "skipped": "dim"}

console = Console(highlight=False)


class DemoFailed(Exception):
    """It cannot go on; the text is the one line to show."""


def keep(password: str, data_dir: Path) -> None:
    """The administrator's password, for later demos on the same data and its owner's eyes only."""
    descriptor = os.open(data_dir / KEPT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password)


def kept(data_dir: Path) -> str:
    """What was kept there; a new one, kept at once, where nothing was: a demo that is broken off is gone on with."""
    if not (data_dir / KEPT).exists():
        keep(secrets.token_urlsafe(12), data_dir)
    return (data_dir / KEPT).read_text()


def wait_until_live(base: str, server: subprocess.Popen[bytes]) -> None:
    """Until the server answers. Raises `DemoFailed` when it ends or takes too long."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoFailed("the server did not start (see above)")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{base}/monitoring/health/live", timeout=2).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise DemoFailed(f"the server did not answer within {STARTS_WITHIN:g} s")


def submit(client: httpx.Client) -> str:
    """Create the example workflow (or a new version of it) and execute it; gives the execution's id."""
    yaml = {"Content-Type": "application/yaml"}
    created = client.post("/workflows", content=EXAMPLE.read_bytes(), headers=yaml)
    if created.status_code == httpx.codes.CONFLICT:
        created = client.put("/workflows/sales-report", content=EXAMPLE.read_bytes(), headers=yaml)
    answered(created)
    return str(answered(client.post("/workflows/sales-report/execute", json={"inputs": {}}))["execution_id"])


def answered(response: httpx.Response, *, unauthorised: str = "") -> Any:
    """The body. Raises `DemoFailed` with the problem otherwise (`unauthorised`: what to say of a 401)."""
    if unauthorised and response.status_code == httpx.codes.UNAUTHORIZED:
        raise DemoFailed(unauthorised)
    if response.is_error:
        raise DemoFailed(f"{response.request.method} {response.request.url} → {response.status_code}: {response.text}")
    return response.json()


async def watch(base: str, token: str, execution: str) -> None:
    """Bars that follow the journal over the WebSocket, until the execution has ended."""
    url = f"{base.replace('http', 'ws', 1)}/progress/ws?workflow_id={execution}"
    columns = (
        TextColumn("{task.description:<24}"), BarColumn(32), TextColumn("{task.percentage:>5.1f} %"),
        TextColumn("{task.fields[status]}"), TimeElapsedColumn(),
    )  # fmt: skip
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        with Progress(*columns, console=console) as bars:
            whole = bars.add_task("[bold]whole execution", total=100, status="")
            steps: dict[str, TaskID] = {}

            def show(step: str, status: str, percent: float, message: str = "") -> None:
                bar = steps.get(step)
                if bar is None:
                    bar = steps[step] = bars.add_task(f"  {step}", total=100, status="", start=False)
                if status == "in_progress":
                    bars.start_task(bar)
                colour = COLOURS.get(status, "cyan" if status == "in_progress" else "dim")
                bars.update(bar, completed=percent, status=f"[{colour}]{status}[/] [dim]{message}[/]")
                if status in TERMINAL:
                    bars.stop_task(bar)

            async with asyncio.timeout(ENDS_WITHIN):
                async for text in socket:
                    frame = json.loads(text)
                    if frame["type"] == "snapshot":
                        for step, state in frame["steps"].items():
                            show(step, state["status"], state["percent_complete"], state.get("message") or "")
                        bars.update(whole, completed=frame["percent_complete"], status=frame["status"])
                        ended = frame["status"] in TERMINAL
                    elif frame["type"] == "event":
                        ended = follow(frame, show, bars, whole)
                    else:
                        continue
                    if ended:
                        bars.stop_task(whole)
                        return
    raise DemoFailed("the server closed the socket")


def follow(frame: dict[str, Any], show: Any, bars: Progress, whole: TaskID) -> bool:
    """Show one event; gives whether it ended the execution."""
    if frame.get("step_id"):
        show(frame["step_id"], frame["status"], frame["percent_complete"], frame.get("message") or "")
        bars.update(whole, completed=frame["overall_percent"])
        return False
    status = frame["status"]
    bars.update(whole, completed=frame["percent_complete"], status=f"[bold {COLOURS.get(status, 'cyan')}]{status}")
    return status in TERMINAL


def tell(base: str, password: str, execution: str) -> None:
    """What one can do next."""
    lines = (
        f"  start page      {base}/ui/",
        f"  this execution  {base}/ui/executions/{execution}",
        f"  API             {base}/workflows (documented at {base}/docs)",
        f"  metrics         {base}/monitoring/metrics",
        f"  admin           {base}/admin/ (user admin, password {password})",
        "",
        f"  curl {base}/progress/sales-report",
    )
    console.print("\n" + "\n".join(lines), soft_wrap=True)


def main() -> int:
    """Start, submit, watch, tell; then serve on, or with ONCE=1 end."""
    began = time.monotonic()
    environment = {
        "ANONYMOUS_ROLE": "guest",
        "CALLABLE_MODULES": "examples.callables",
        "LOG_LEVEL": "WARNING",
        "DAGGER_TRACING_ENABLED": "false",  # no collector belongs to the demo
        **os.environ,
        "PYTHONUNBUFFERED": "1",
    }
    sys.path.insert(0, str(ROOT))
    from orchestration.environment import UnsafeEnvironment, data_dir, read

    try:
        env = read(environment)
        data = data_dir(env)
    except UnsafeEnvironment as wrong:
        console.print(str(wrong), style="red", highlight=False)
        return 2
    base = f"http://127.0.0.1:{env.PORT}"
    password = environment["ADMIN_PASSWORD"] = environment.get("ADMIN_PASSWORD") or kept(data)
    server = subprocess.Popen(SERVE, cwd=ROOT, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    completed = False
    try:
        wait_until_live(base, server)
        console.print(f"[bold]AI Orchestration Platform[/] serves on {base}/ with {env.WORKERS} workers")
        with httpx.Client(base_url=base, timeout=30) as client:
            login = client.post("/auth/token", data={"username": "admin", "password": password})
            token = answered(login, unauthorised="this data has another admin password; give it: ADMIN_PASSWORD=…")[
                "access_token"
            ]
            keep(password, data)
            client.headers["Authorization"] = f"Bearer {token}"
            execution = submit(client)
            console.print(f"executing [bold]sales-report[/] as {execution}\n")
            asyncio.run(watch(base, token, execution))
            result = answered(client.get(f"/executions/{execution}"))
        completed = result["status"] == "completed"
        console.print(f"\n[bold]{result['status']}[/], {time.monotonic() - began:.1f} s after the command; outputs:")
        console.print_json(data=result["outputs"] if completed else result["error"])
        tell(base, password, execution)
        if not os.environ.get("ONCE"):
            console.print("\nCtrl-C ends it.", style="dim")
            return server.wait()
    except DemoFailed as why:
        console.print(str(why), style="red", highlight=False)
    except (TimeoutError, OSError) as error:
        console.print(f"the demo failed: {type(error).__name__}: {error}", style="red", highlight=False)
    except KeyboardInterrupt:
        completed = True
    finally:
        if server.poll() is None:
            server.terminate()
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
    return 0 if completed else 1


if __name__ == "__main__":
    sys.exit(main())
