# One image for the server, the workers and the one-shot commands:
#   python manage.py serve              the server and WORKERS workers (the default)
#   python manage.py serve --workers 0  the server alone
#   python manage.py worker             one worker
#   python manage.py migrate            the database's tables, before the first start and after each update
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DJANGO_SETTINGS_MODULE=orchestration.settings.prod \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt && python -m compileall -q /usr/local/lib/python3.11/site-packages

COPY . .
# Development's settings make throw-away keys, which production's refuse to do without; no key stays in the image.
RUN DJANGO_SETTINGS_MODULE=orchestration.settings.dev DATA_DIR=/tmp/build python manage.py collectstatic --noinput \
    && rm -rf /tmp/build \
    && python -m compileall -q apps orchestration \
    && groupadd --system --gid 10001 platform \
    && useradd --system --uid 10001 --gid platform --home-dir /data --no-create-home platform \
    && install -d -o platform -g platform -m 0750 /data \
    && install -d -o platform -g platform -m 0755 /run/scrape \
    && install -d -o platform -g platform -m 0750 /run/alertmanager

USER platform
VOLUME /data
EXPOSE 8000

# Asked under the first name the server answers to. A worker has no port: its container switches this off.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import os, urllib.request as u; \
host = os.environ.get('ALLOWED_HOSTS', 'localhost').split(',')[0].strip().lstrip('.'); \
url = 'http://127.0.0.1:%s/monitoring/health/live' % os.environ['PORT']; \
u.urlopen(u.Request(url, headers={'Host': host}), timeout=4)"]

CMD ["python", "manage.py", "serve"]
