/** A package of this directory's own package.json. */
export function peer(name) {
  return import(name);
}
