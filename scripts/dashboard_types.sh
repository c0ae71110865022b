#!/usr/bin/env bash
# Checks both Grafana dashboards against Grafana's own types (@grafana/schema) with TypeScript; needs npm.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund @grafana/schema@13.2.3 typescript@5.9
for name in grafana-dagger-dashboard grafana-dagger-advanced-dashboard; do
    {
        echo 'import type { Dashboard } from "@grafana/schema";'
        echo 'export const dashboard: Dashboard ='
        cat "$root/monitoring/$name.json"
    } > "$name.ts"
done
cat > tsconfig.json <<'JSON'
{"compilerOptions": {"strict": true, "noEmit": true, "skipLibCheck": true, "module": "esnext",
 "moduleResolution": "bundler", "target": "es2022"}, "include": ["*.ts"]}
JSON
npx tsc -p .
echo "both dashboards fit @grafana/schema"
