"""Totals of what is counted take the place of those of what was pruned; labels for the workflows that are there."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F

MAX_WORKFLOWS, MAX_STEPS = 200, 1_000


def admit(apps, schema_editor):
    """The oldest workflows with the steps of their present versions, as far as there is room."""
    versions = apps.get_model("workflows", "WorkflowVersion").objects.filter(
        number=F("workflow__version_number"), workflow__kind="workflow"
    )
    label = apps.get_model("workflows", "MetricLabel")
    steps_left = MAX_STEPS
    for version in versions.select_related("workflow").order_by("workflow_id")[:MAX_WORKFLOWS]:
        steps = [str(step["id"]) for step in version.definition.get("steps", ())][:steps_left]
        steps_left -= len(steps)
        label.objects.bulk_create(
            label(workflow_id=version.workflow_id, step_id=name, admitted_at=version.workflow.updated_at)
            for name in ("", *steps)
        )


class Migration(migrations.Migration):

    dependencies = [
        ('workflows', '0011_execution_revision'),
    ]

    operations = [
        migrations.CreateModel(
            name='Figure',
            fields=[
                ('name', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('value', models.FloatField(default=0.0)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='MetricLabel',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('workflow', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='workflows.workflow')),
                ('step_id', models.CharField(blank=True, max_length=110)),
                ('admitted_at', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('workflow', 'step_id'), name='metric_label_once')],
            },
        ),
        migrations.CreateModel(
            name='OutcomeTotal',
            fields=[
                ('pk', models.CompositePrimaryKey('workflow_id', 'what', 'step_id', 'status', 'error_type', blank=True, editable=False, primary_key=True, serialize=False)),
                ('workflow', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='workflows.workflow')),
                ('what', models.CharField(choices=[('execution', 'Execution'), ('task', 'Task'), ('wait', 'Wait')], max_length=9)),
                ('step_id', models.CharField(blank=True, max_length=110)),
                ('status', models.CharField(blank=True, max_length=11)),
                ('error_type', models.CharField(blank=True, max_length=20)),
                ('count', models.BigIntegerField(default=0)),
                ('retries', models.BigIntegerField(default=0)),
                ('microseconds', models.BigIntegerField(default=0)),
                ('buckets', models.JSONField(default=dict)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.DeleteModel(
            name='PrunedTotal',
        ),
        migrations.AddField(
            model_name='execution',
            name='counted',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='performer',
            name='lost',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='task',
            name='queued_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name='execution',
            index=models.Index(condition=models.Q(('counted', False)), fields=['status'], name='execution_uncounted'),
        ),
        migrations.RunPython(admit, migrations.RunPython.noop),
    ]
