from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('workflows', '0010_receivers_sealed'),
    ]

    operations = [
        migrations.AddField(
            model_name='schedule',
            name='last_outcome',
            field=models.CharField(blank=True, choices=[('started', 'Started'), ('passed_over', 'Passed Over'), ('missed', 'Missed'), ('failed', 'Failed')], default='', max_length=11),
            preserve_default=False,
        ),
    ]
