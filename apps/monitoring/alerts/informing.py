"""Alerts that only inform, and the watchdog."""

from apps.monitoring.alerts.declared import JOB, Alert
from apps.monitoring.alerts.trials import Edge, Trial, counter, lasts


def _told(covered: tuple[int, int], missed: tuple[int, int], *, more: int = 0) -> dict[str, str]:
    """`more` intervals that did not hold at once, later."""
    later = ((1, more), (400, 0)) if more else ()
    return {
        'dagger_eta_interval_total{covered="true"}': counter(covered, *([(401, 0)] if more else [])),
        'dagger_eta_interval_total{covered="false"}': counter(missed, *later),
    }


INFORMING: tuple[Alert, ...] = (
    Alert(
        name="MetricsLabelOverflow",
        group="platform",
        severity="info",
        expr="max(increase(dagger_metrics_label_overflow_total[1h])) > 0",
        summary="{{ $value | humanize }} executions and steps were counted as `other`",
        description="There are more workflows or steps than have labels of their own (200 and 1,000).",
        causes=("many workflows", "workflows with very many steps"),
        steps=("`manage.py metric_labels --pin WORKFLOW --instead-of WORKFLOW` gives one a label of its own.",),
        trial=Trial(
            series={"dagger_metrics_label_overflow_total": ("5x20", "0x20", "0x5 1x15")},
            edges=lasts("dagger_metrics_label_overflow_total", 60),
        ),
    ),
    Alert(
        name="EtaMiscalibrated",
        group="platform",
        severity="info",
        # Four of five actual ends should lie between the tenth and the ninetieth percentile that were told.
        expr=(
            'sum(max by (covered) (increase(dagger_eta_interval_total{covered="true"}[6h])))\n'
            "/ sum(max by (covered) (increase(dagger_eta_interval_total[6h]))) < 0.6\n"
            "and sum(max by (covered) (increase(dagger_eta_interval_total[6h]))) >= 20"
        ),
        wait=900,
        summary="Only {{ $value | humanizePercentage }} of the executions ended when the estimate said they would",
        description="Of the intervals that are told for the end of an execution, 80 % should hold.",
        causes=("what workflows do has changed since most of their executions", "the workers' number changed much"),
        steps=(
            "Compare `GET /progress/{workflow_id}/estimate` with the last executions of that workflow.",
            "Nothing is broken: estimates learn from every execution that completes.",
        ),
        trial=Trial(
            series={
                'dagger_eta_interval_total{covered="true"}': ("0+8x90", "0+61x90", "0+5x90"),
                'dagger_eta_interval_total{covered="false"}': ("0+2x90", "0+39x90", "0+5x90"),
            },
            edges=(
                Edge(what="six of ten", series=_told((90, 60), (90, 40)), at=90, fires=False),
                Edge(what="just below", series=_told((90, 59), (90, 41)), at=90, fires=True),
                Edge(what="nineteen in all", series=_told((1, 0), (1, 0), more=19), at=30, fires=False),
                Edge(what="twenty in all", series=_told((1, 0), (1, 0), more=20), at=30, fires=True),
                Edge(what="four hours later", series=_told((1, 0), (1, 0), more=20), at=240, fires=True),
                Edge(what="when they have left the window", series=_told((1, 0), (1, 0), more=20), at=363, fires=False),
            ),
        ),
    ),
    Alert(
        name="Watchdog",
        group="platform",
        severity="none",
        expr="vector(1)",
        summary="Alerting works",
        description="Always firing. Whoever receives it should tell somebody when it no longer comes.",
        causes=("alerting works",),
        steps=("Nothing is to be done.",),
        trial=Trial(series={f'up{{job="{JOB}", instance="server:8000"}}': ("1x5", "1x5", "1x5")}),
    ),
)
