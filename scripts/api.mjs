// Compares the public API of every entry with its report in etc/; --update rewrites the reports.
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Extractor, ExtractorConfig } from '@microsoft/api-extractor';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const update = process.argv.includes('--update');
const entries = { rxfleet: 'index', 'rxfleet-agents': 'agents', 'rxfleet-node': 'node/index', 'rxfleet-testing': 'testing/index' };

mkdirSync(join(root, 'etc'), { recursive: true });
mkdirSync(join(root, 'node_modules/.cache/api'), { recursive: true });

let stale = 0;
for (const [report, entry] of Object.entries(entries)) {
  const configObject = ExtractorConfig.loadFile(join(root, 'api-extractor.json'));
  configObject.mainEntryPointFilePath = join(root, `dist/${entry}.d.ts`);
  configObject.apiReport.reportFileName = report;
  const config = ExtractorConfig.prepare({
    configObject,
    configObjectFullPath: join(root, 'api-extractor.json'),
    packageJsonFullPath: join(root, 'package.json'),
  });
  const result = Extractor.invoke(config, {
    localBuild: update,
    messageCallback(message) {
      message.handled = true;
      const where = message.sourceFilePath ? `${message.sourceFilePath}:${message.sourceFileLine} ` : '';
      if (message.logLevel === 'error') console.error(`${report}: ${where}${message.text}`);
    },
  });
  if (result.apiReportChanged && update) console.log(`etc/${report}.api.md written`);
  if (result.apiReportChanged && !update) console.error(`etc/${report}.api.md differs from the build: npm run api, then review the diff`);
  if (result.errorCount > 0 || (result.apiReportChanged && !update)) stale += 1;
}
process.exitCode = stale > 0 ? 1 : 0;
