import { z } from 'zod';
import { isCopyleft } from './licences.js';
import type { Notes, Wish } from './notes.js';
import { bytes } from './text.js';

const RISKS = ['low', 'medium', 'high'] as const;
export type Risk = (typeof RISKS)[number];

/** What an agent ends with. */
export const verdictSchema = z.object({ risk: z.enum(RISKS), reasons: z.array(z.string()) });
export type Verdict = z.output<typeof verdictSchema>;

/** The verdict in a reply: the JSON object that it ends with. */
export function parseVerdict(text: string): Verdict | undefined {
  try {
    return verdictSchema.parse(JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)));
  } catch {
    return undefined;
  }
}

const LARGE_BYTES = 20_000_000;

/** What the embedded model makes of what the tools told it. That some of them told it nothing is no good sign. */
export function judge(notes: Notes, gaps: readonly Wish[]): Verdict {
  const tools = new Set(gaps.filter(({ name }) => name !== 'audit_dependency').map(({ name }) => name));
  const unchecked = [...tools].map<Finding>((name) => ['medium', `could not be checked with ${name}`]);
  const findings = [
    ...installation(notes),
    ...licence(notes),
    ...entries(notes),
    ...code(notes),
    ...dependencies(notes),
    ...size(notes),
    ...unchecked,
  ];
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

/** Somebody else's risk is one level less of one's own. An agent that was refused leaves a gap. */
function dependencies(notes: Notes): Finding[] {
  const suspicious = notes.last('check_dependencies')?.suspicious ?? [];
  return suspicious.flatMap(({ name, signs }): Finding[] => {
    const wish = delegation(name, signs);
    const verdict = notes.answer(wish);
    const trouble = notes.trouble(wish);
    if (verdict !== undefined && verdict.risk !== 'low')
      return [
        [
          verdict.risk === 'high' ? 'medium' : 'low',
          `its dependency ${name} is of ${verdict.risk} risk: ${verdict.reasons[0] ?? 'no reason given'}`,
        ],
      ];
    return trouble === undefined ? [] : [['medium', `its dependency ${name}, which ${signs.join(' and ')}, was not audited: ${trouble}`]];
  });
}

/** The call that has a dependency audited. */
export const delegation = (name: string, signs: readonly string[]): Wish<'audit_dependency'> => ({
  name: 'audit_dependency',
  input: { name, signs },
});

function size(notes: Notes): Finding[] {
  const found = notes.of('list_files')[0];
  if (found === undefined) return [];
  const findings: Finding[] = found.compiled === null ? [] : [['low', `ships compiled code, which nobody can read: ${found.compiled}`]];
  return found.bytes > LARGE_BYTES ? [...findings, ['low', `is large: ${bytes(found.bytes)} in ${found.files} files`]] : findings;
}
