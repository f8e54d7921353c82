#!/bin/sh
# Run a job from cron; alert where it fails, resolve when it works again.
#   STREAMPROC_TOKEN=... ./backup-alert.sh nightly-backup orders-db /usr/local/bin/backup
set -u
name=$1 service=$2
shift 2

say() {
  curl -fsS --retry 5 --retry-all-errors --max-time 30 "${STREAMPROC_URL:-http://127.0.0.1:8080}/v1/ingest/generic" \
    -H 'Content-Type: application/json' ${STREAMPROC_TOKEN:+-H "Authorization: Bearer $STREAMPROC_TOKEN"} \
    -d "{\"id\": \"cron/$(hostname)/$name\", \"name\": \"$name failed\", \"status\": \"$1\", \"severity\": \"error\",
         \"summary\": \"$name on $(hostname) ended with $2\", \"labels\": {\"service\": \"$service\", \"host\": \"$(hostname)\"}}"
}

"$@"
status=$?
if [ $status -eq 0 ]; then say resolved 0; else say firing $status; fi
exit $status
