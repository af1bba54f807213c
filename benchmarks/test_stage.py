"""What the bench of speed asks is answered as its rows say, and its hooks do to a service what they promise."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.bare import ANSWER
from benchmarks.cases import ASKED, KINDS, NO_METRICS, kind_of
from benchmarks.client import missing, requests
from benchmarks.ground import SUFFIX
from benchmarks.hooks import sitecustomize
from benchmarks.runs import load
from benchmarks.stage import stage, whole_stage
from tests.servers.serving import PATIENT


@pytest.mark.timeout(180)  # two dozen loads, each a process, on three services
async def test_every_question_gets_its_answer() -> None:
    """No row of the first table meets another answer than its own, once each of its keys was asked for."""
    others = {}
    async with whole_stage(**PATIENT) as at:
        for case in (each for kind in KINDS for each in kind_of(kind, at)):
            asked = replace(case.job, seconds=60, at_most=100)
            await load(asked)
            others[case.name] = (await load(asked)).others
    assert len(others) >= len(ASKED)
    assert not any(others.values()), others


async def test_the_floor_answers_as_much() -> None:
    """The constant answer is a whole one, and of the size of what Envoy is answered to an allowed check."""
    async with stage(workers=1, cores=machine.SERVED, **PATIENT) as at:
        reader, writer = await asyncio.open_connection(at.envoy.host, at.envoy.port)
        writer.write(next(requests(ASKED["different"](at))))
        answer = await reader.readuntil(SUFFIX)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(answer) == len(ANSWER)
    assert not missing(ANSWER)


async def test_a_service_can_be_sampled_and_count_nothing(tmp_path: Path) -> None:
    """Between two signals stacks are taken, which lead into the service; without metrics no decision is counted."""
    file = tmp_path / "samples"
    async with stage(workers=1, cores=machine.SERVED, **NO_METRICS, BENCH_SAMPLES=str(file), **PATIENT) as at:
        (pid,) = at.envoy.pids
        os.kill(pid, sitecustomize.BEGIN)
        outcome = await load(replace(ASKED["different"](at), at_most=2_000, seconds=60))
        os.kill(pid, sitecustomize.END)
        metrics = await at.at.service.metrics()
        await at.at.service.end()
    assert (outcome.requests, outcome.others) == (2_000, 0)
    counted = {name: value for name, value in metrics.items() if name.startswith("extauthz_decisions_total")}
    assert counted
    assert not any(counted.values())
    stacks = json.loads(file.read_text())
    assert any("transports/http" in frame[0] for stack, _ in stacks for frame in stack)
