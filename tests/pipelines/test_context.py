from pipelines.context import Context
from pipelines.engine import Engine
from wit.config import BuildConfig


def test_a_stage_that_is_made_anew_trusts_no_file_that_is_there() -> None:
    context = Context(BuildConfig(output="out"), (), 0, Engine((), 1), {}, rebuilding=["select"])
    assert context.stage("select").anew and not context.stage("plan").anew
