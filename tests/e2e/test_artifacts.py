"""Files, large outputs and logs of steps, through a whole installation, on both databases."""

import json

from tests.e2e.test_make_run import ended

MIB = 2**20
LEAVE = 'printf 0123456789 > "$ORCHESTRATION_ARTIFACTS/digits.txt"; printf "\\033[31mred\\033[0m\\n"'
STEPS = [
    {"id": "leave", "command": ["sh", "-c", LEAVE]},
    {"id": "large", "command": ["sh", "-c", f"head -c {8 * MIB} /dev/zero | tr '\\0' x"]},
    {"id": "count", "depends_on": ["large"], "command": ["wc", "-c"]},
    {"id": "echo", "depends_on": ["large"],
     "python": {"call": "builtin.echo", "with": {"again": "${steps.large.outputs.stdout}"}}},
]  # fmt: skip


def test_a_log_is_followed_while_it_is_written(installation, tmp_path):
    """By Server-Sent Events through the real server, resumed by the last event's id."""
    client = installation.client()
    script = f"echo line 1; until [ -e {tmp_path}/go ]; do sleep 0.1; done; "
    script += "for n in 2 3 4 5; do echo line $n; sleep 0.6; done"
    answer = client.post("/workflows", json={"name": "Talks", "steps": [{"id": "a", "command": ["sh", "-c", script]}]})
    assert answer.status_code == 201, answer.text
    execution = client.post("/workflows/talks/execute", json={}).json()["execution_id"]
    url = f"/executions/{execution}/logs/stream"
    first, cursor, kind = followed(client, url, stop_at_first=True)
    assert client.get(f"/executions/{execution}").json()["status"] == "in_progress", "it is told before the end"
    (tmp_path / "go").touch()
    rest, _, kind = followed(client, url, last=cursor)
    assert "".join(first + rest) == "".join(f"line {n}\n" for n in range(1, 6))
    assert kind == "end"


def followed(client, url, *, last="", stop_at_first=False):
    texts, kind = [], ""
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                last = value
            elif name == "data" and not kind:
                texts.append(json.loads(value)["text"])
                if stop_at_first:
                    break
    return texts, last, kind


def test_files_and_large_outputs_come_through(installation):
    client = installation.client()
    answer = client.post("/workflows", json={"name": "Leaves files", "steps": STEPS})
    assert answer.status_code == 201, answer.text
    execution = client.post("/workflows/leaves-files/execute", json={}).json()["execution_id"]
    found = ended(client, execution)
    assert found["status"] == "completed", found
    steps = {task["step_id"]: task for task in client.get(f"/executions/{execution}/tasks").json()["results"]}
    assert steps["large"]["outputs"]["stdout"]["size"] == 8 * MIB
    assert steps["count"]["outputs"]["stdout"].strip() == str(8 * MIB)
    assert steps["echo"]["outputs"]["again"] == steps["large"]["outputs"]["stdout"], "the same bytes, kept once"
    rows = client.get(f"/executions/{execution}/artifacts").json()["results"]
    assert {(row["step_id"], row["name"]) for row in rows} == {
        ("leave", "digits.txt"), ("large", "outputs/stdout.txt"), ("echo", "outputs/again.txt"),
    }  # fmt: skip
    digits = next(row for row in rows if row["name"] == "digits.txt")
    url = f"/executions/{execution}/artifacts/{digits['id']}"
    part = client.get(url, headers={"Range": "bytes=3-5"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"345", "bytes 3-5/10")
    whole = client.get(f"/executions/{execution}/artifacts/{next(r['id'] for r in rows if r['step_id'] == 'large')}")
    assert len(whole.content) == 8 * MIB
    text = client.get(f"/executions/{execution}/logs.txt").text
    assert "=== leave, attempt 1 ===\n\x1b[31mred\x1b[0m\n" in text
    first = client.get(f"/executions/{execution}/logs", params={"limit": 1}).json()
    assert client.get(f"/executions/{execution}/logs", params={"after": first[0]["cursor"]}).json()
