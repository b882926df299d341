"""From a query list to WebDataset shards: `python -m pipelines.build --queries queries/500k.txt`.

    query list -> candidates -> plan -> download (-> score) -> select -> publish -> report

Stages are separate pipelines with durable tables between them. A stage that is finished under the same settings is skipped,
so a build that was stopped at any instant goes on when it is started again.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the build that the arguments describe; returns the exit code (see `pipelines.ending`)."""
    # Imported here, not above: worker processes import this module again, and need neither Beam nor the command line.
    from pipelines import commandline, ending, session
    from pipelines.candidates import run_candidates
    from pipelines.download import before_download, run_download, tell_what_it_takes
    from pipelines.plan import run_plan
    from pipelines.publish import run_publish
    from pipelines.report import run_report
    from pipelines.score import run_score
    from pipelines.select import run_select
    from wit.errors import Busy, InputError, OutageError, Stopped
    from wit.store.refusals import refusal

    run = {
        "candidates": run_candidates,
        "plan": run_plan,
        "download": run_download,
        "score": run_score,
        "select": run_select,
        "publish": run_publish,
        "report": run_report,
    }
    given, started, out = list(sys.argv[1:] if arguments is None else arguments), False, ""
    try:
        config, beam_flags = commandline.parse(given)
        out = config.output
        with ending.interruptible(), session.opened(config, beam_flags) as build:
            started = True
            stages = before_download(config.stage_names()) if config.dry_run else config.stage_names()
            for stage in stages:
                build.run_stage(stage, run[stage])
            if config.dry_run:
                build.show_losses(stages)
                tell_what_it_takes(build.context.at_work_on("download", build.take_job))
                return 0
            build.withdraw_scores()
            build.show_funnel()
            if (why := build.nothing_kept()) is not None:
                print(why, file=sys.stderr)
                return 4
    except (InputError, Busy) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OutageError, Stopped) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 3
    except ending.Interrupted as error:
        print(f"stopped: by {error}; to go on: python -m pipelines.build {shlex.join(given)}", file=sys.stderr)
        return 3
    except (OSError, RuntimeError) as error:  # Beam hands on an OSError as a RuntimeError
        if (refused := refusal(error, out)) is None:
            raise
        print(f"stopped: {refused}, then start the build again" if started else f"error: {refused}", file=sys.stderr)
        return 3 if started else 2
    return 0


if __name__ == "__main__":
    from wit import early

    early.listen(", before anything was done")
    code = main()
    from pipelines.ending import leave

    leave(code)
