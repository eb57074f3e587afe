#!/usr/bin/env bash
# The product in two minutes: clips, manifest, backfill, tables; and who leaked a copy, by the shipped pair
# of mark networks or a named one. Usage: demo.sh BIN DIRECTORY [PAIR]
set -euo pipefail
bin=$1
dir=$2
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() {
  local shown=$bin/reelsight argument
  for argument in "$@"; do
    if [[ $argument == *" "* ]]; then shown+=" \"$argument\""; else shown+=" $argument"; fi
  done
  say "$shown"
  "$bin/reelsight" "$@"
}

rm -rf "$dir"
run samples "$dir/clips" --broken
run backfill --manifest "$dir/clips/manifest.parquet" --output "$dir/out"
run query "$dir/out" "SELECT clip_id, label, score, coverage, list_transform(segments, lambda s: format('{:.1f}-{:.1f} s', s.start_ms / 1000, s.end_ms / 1000)) AS times FROM tags ORDER BY clip_id, score * coverage DESC"
run query "$dir/out" "SELECT clip_id, stage, code, message, hint FROM dead_letters"
printf '\nThe Parquet is under %s; read it with your own tools, or ask more:\n' "$dir/out/data"
printf '  %s/reelsight query %s "SELECT label, count(*) AS clips FROM tags GROUP BY 1 ORDER BY 2 DESC"\n' "$bin" "$dir/out"
"$bin/reelsight" query "$dir/out" "SELECT label, count(*) AS clips FROM tags GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"

pair=${3:-$("$bin/python" -c 'from reelsight.models import MARK; print(MARK)')}
bash "$(dirname "$0")/demo_marks.sh" "$bin" "$dir/marks" "$pair"
