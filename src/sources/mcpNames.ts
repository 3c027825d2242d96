/** Of a tool's name, in the API. */
const LONGEST = 128;

/** Names that the API takes, each once: those that it takes as they are keep theirs, whatever stands before them in the list. */
export function modelNames(names: readonly string[], prefix: string): string[] {
  const taken = new Set<string>();
  const keeps = names.map((name) => {
    const own = prefix + name;
    const fits = name !== '' && own === fitting(own) && !taken.has(own);
    if (fits) taken.add(own);
    return fits;
  });
  return names.map((name, at) => (keeps[at] === true ? prefix + name : free(fitting(prefix + (name === '' ? 'tool' : name)), taken)));
}

function fitting(name: string): string {
  return name.replace(/[^a-zA-Z0-9_-]/gu, '_').slice(0, LONGEST);
}

function free(name: string, taken: Set<string>): string {
  let own = name;
  for (let n = 2; taken.has(own); n++) own = `${name.slice(0, LONGEST - String(n).length - 1)}_${n}`;
  taken.add(own);
  return own;
}
