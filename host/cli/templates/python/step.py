"""Summarizes a text with a model."""

from dataclasses import dataclass

from handshake_step import step
from wit_world.imports import models


@dataclass
class Input:
    """What the step takes."""

    text: str


@dataclass
class Output:
    """What the step gives."""

    summary: str
    words: int


def run(context, input: Input) -> Output:
    message = models.Message(models.Role.USER, input.text)
    request = models.GenerateRequest("default", [message], max_tokens=None, temperature=None, options=None)
    # A refusal is an exception: left alone it ends the step; `handshake_step.denial` tells it apart.
    answer = models.generate(request)
    return Output(summary=answer.text, words=len(answer.text.split()))


Handler = step(run, name="PLUGIN-NAME", version="0.1.0", capabilities=["model.infer"])
