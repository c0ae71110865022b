"""`manage.py metric_labels`: which workflows have a label of their own in metrics; gives one to a workflow without."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Count, Q

from apps.accounts.audit import command
from apps.core.errors import PlatformError
from apps.workflows.models import MetricLabel, Workflow
from apps.workflows.services import labels


class Command(BaseCommand):
    """Lists labels; `--pin` gives one, where there is no room in the place of another."""

    help = "Lists the workflows with a label of their own in metrics; the others share the label `other`."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        parser.add_argument("--pin", metavar="WORKFLOW", help="give this workflow a label of its own")
        parser.add_argument("--instead-of", metavar="WORKFLOW", help="in the place of this one")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Raises CommandError for an unknown workflow, or where there is no room."""
        if options["instead_of"] and not options["pin"]:
            raise CommandError("--instead-of needs --pin: name the workflow that gets the label")
        if options["pin"]:
            try:
                with command("metric_labels"):
                    labels.pin(options["pin"], instead_of=options["instead_of"])
            except PlatformError as error:
                raise CommandError(error.detail) from None
        own = MetricLabel.objects.values("workflow__slug").annotate(steps=Count("pk", filter=~Q(step_id="")))
        for row in own.order_by("workflow__slug"):
            self.stdout.write(f"{row['workflow__slug']}: {row['steps']} steps")
        others = Workflow.objects.filter(kind=Workflow.Kind.WORKFLOW).exclude(
            pk__in=MetricLabel.objects.values("workflow")
        )
        self.stdout.write(
            f"{own.count()} of {labels.MAX_WORKFLOWS} workflows,"
            f" {MetricLabel.objects.exclude(step_id='').count():,} of {labels.MAX_STEPS:,} steps;"
            f" {others.count()} workflows share `other`"
        )
