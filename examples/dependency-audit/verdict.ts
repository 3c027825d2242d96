import { z } from 'zod';
import { isCopyleft } from './licences.js';
import type { Notes } from './notes.js';
import { bytes } from './text.js';
import type { ToolName } from './tools.js';

const RISKS = ['low', 'medium', 'high'] as const;
export type Risk = (typeof RISKS)[number];

const schema = z.object({ risk: z.enum(RISKS), reasons: z.array(z.string()) });
export type Verdict = z.output<typeof schema>;

/** The verdict in a reply: the JSON object that it ends with. */
export function parseVerdict(text: string): Verdict | undefined {
  try {
    return schema.parse(JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)));
  } catch {
    return undefined;
  }
}

const LARGE_BYTES = 20_000_000;

/** What the embedded model makes of what the tools told it. That some of them told it nothing is no good sign. */
export function judge(notes: Notes, gaps: ReadonlySet<ToolName>): Verdict {
  const unchecked = [...gaps].map<Finding>((name) => ['medium', `could not be checked with ${name}`]);
  const findings = [...installation(notes), ...licence(notes), ...entries(notes), ...code(notes), ...size(notes), ...unchecked];
  const worst = Math.max(0, ...findings.map(([risk]) => RISKS.indexOf(risk)));
  return { risk: RISKS[worst] ?? 'low', reasons: findings.map(([, reason]) => reason) };
}

type Finding = readonly [Risk, string];

function installation(notes: Notes): Finding[] {
  const found = notes.last('find_install_scripts');
  if (found === undefined) return [];
  const scans = found.sources.flatMap((path) => notes.of('scan_code').filter((scan) => scan.path === path));
  const acts = scans.some((scan) => scan.startsProcesses > 0 || scan.usesNetwork > 0);
  const findings = found.scripts.map<Finding>(({ name, command }) => [
    acts ? 'high' : 'medium',
    `runs "${command}" on ${name}${acts ? ', which starts processes or uses the network' : ''}`,
  ]);
  return found.nativeBuild ? [...findings, ['medium', 'compiles native code on installation (binding.gyp)']] : findings;
}

function licence(notes: Notes): Finding[] {
  const found = notes.last('read_licence');
  if (found === undefined) return [];
  const { declared, texts, agrees } = found;
  const spdx = texts.flatMap((text) => text.spdx ?? []);
  if (declared === null && texts.length === 0) return [['high', 'has no licence: neither declared nor as a text']];
  const findings: Finding[] = [];
  if (declared === null) findings.push(['medium', `declares no licence; its licence text is ${spdx.join(', ') || 'not a known one'}`]);
  else if (/^(UNLICENSED|SEE LICEN[SC]E)/i.test(declared)) findings.push(['high', `is not under a known licence: "${declared}"`]);
  else if (isCopyleft(declared)) findings.push(['medium', `is under ${declared}, which asks something of those who ship it`]);
  if (declared !== null && agrees === false) findings.push(['medium', `declares ${declared}, but its licence text is ${spdx.join(', ')}`]);
  if (texts.length === 0) findings.push(withoutText(notes, declared));
  return findings;
}

function withoutText(notes: Notes, declared: string | null): Finding {
  const readme = notes.of('read_text').find(({ path }) => /readme/i.test(path));
  const said = readme !== undefined && /licen[cs]e/i.test(readme.text);
  return said
    ? ['low', 'has no licence text, but its README names the licence']
    : ['medium', `declares ${declared ?? '?'}, but has no licence text`];
}

function entries(notes: Notes): Finding[] {
  const found = notes.last('count_exports');
  if (found === undefined || found.missing.length === 0) return [];
  const { missing, targets } = found;
  return [['medium', `${missing.length} of ${targets} files it exports are missing, such as ${missing[0]}`]];
}

function code(notes: Notes): Finding[] {
  const entry = notes.last('count_exports')?.entry;
  const scan = notes.of('scan_code').find(({ path }) => path === entry);
  if (scan === undefined) return [];
  const findings: Finding[] = [];
  if (scan.evaluates > 0) findings.push(['medium', `its entry ${scan.path} evaluates code (${scan.evaluates} ×)`]);
  if (scan.startsProcesses > 0) findings.push(['low', `its entry ${scan.path} starts processes`]);
  return findings;
}

function size(notes: Notes): Finding[] {
  const found = notes.of('list_files')[0];
  return found !== undefined && found.bytes > LARGE_BYTES ? [['low', `is large: ${bytes(found.bytes)} in ${found.files} files`]] : [];
}
