"""What a team pastes beside what it already has. Everything it has stays as it is."""

from __future__ import annotations

ALERTMANAGER = """
Into alertmanager.yml, as the first of your routes: your own routes still see every alert.

  route:
    routes:
      - receiver: streamproc
        continue: true
        group_wait: 5s         # streamproc groups by itself: the sooner it hears of an alert, the better
        group_interval: 10s
        repeat_interval: 4h    # an alert that is not repeated for 12 h counts as resolved
  receivers:
    - name: streamproc
      webhook_configs:
        - url: {url}/v1/ingest/alertmanager
          send_resolved: true
          # Where gateway.ingest_tokens is set (needed as soon as Alertmanager runs elsewhere):
          # http_config: {{authorization: {{credentials: TOKEN}}}}
"""
DATADOG = """\
Into Datadog (Integrations, Webhooks), then @webhook-streamproc in the monitors' messages:

  URL             https://YOUR-HOST/v1/ingest/datadog (Datadog comes from outside: give gateway.ingest_tokens and TLS)
  Custom headers  {{"Authorization": "Bearer TOKEN"}}
  Payload
{template}"""
