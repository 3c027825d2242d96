const HIDDEN = '[redacted]';

/** A name that tells what its value is, and the value: `api_key=…`, `"password": "…"`. */
function named(): RegExp {
  const joined = '(?:access|auth|client|private|refresh|secret|session)[ _-]?(?:key|secret|token)';
  const name = `(?:[\\w-]{0,30}[_-])?(?:api[ _-]?key|${joined}|authorization|cookie|passw(?:or)?d|secret|token)`;
  const quotes = `["'\\\\]{0,4}`;
  return new RegExp(`\\b(${name})(${quotes}\\s{0,3}[:=]\\s{0,3}${quotes})(?!\\[redacted)[^\\s"'\\\\,;&}]{4,}`, 'gi');
}

/** What keys, tokens and passwords look like, each with what is left of it. Every pattern takes time linear in the text. */
const SECRETS: readonly (readonly [pattern: RegExp, left: string])[] = [
  [/-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?/g, HIDDEN],
  [/\b(bearer|basic)\s+[\w.~+/=-]{6,}/gi, `$1 ${HIDDEN}`],
  [/(:\/\/)[^\s/@]{1,200}@/g, `$1${HIDDEN}@`],
  [/\bsk-ant-[\w-]+/gi, HIDDEN],
  [/\b[spr]k[-_][\w-]{16,}/gi, HIDDEN],
  [/\b(?:gh[opsu]|ghr|github_pat|glpat|xox[abeprs]|shpat)[-_][\w-]{10,}/gi, HIDDEN],
  [/\b(?:npm|hf)_[A-Za-z0-9]{30,}/g, HIDDEN],
  [/\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b/g, HIDDEN],
  [/\b(?:AIza|ya29\.)[\w-]{16,}/g, HIDDEN],
  [/\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?/g, HIDDEN],
  [/* @__PURE__ */ named(), `$1$2${HIDDEN}`],
];

/** How much of a text is looked at. */
const MOST = 4000;

/** One line of at most `length` characters in which nothing that looks like a key, a token or a password is left. */
export function withoutSecrets(text: string, length: number): string {
  const line = SECRETS.reduce((so, [pattern, left]) => so.replace(pattern, left), text.slice(0, MOST))
    .replace(/\s+/g, ' ')
    .trim();
  return line.length <= length ? line : `${line.slice(0, length - 1).replace(/[\uD800-\uDBFF]$/, '')}…`;
}
