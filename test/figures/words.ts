/** Figures as the page and its pictures say them. */
export function count(n: number): string {
  return n.toLocaleString('en');
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

export function dollars(microUsd: number): string {
  return `$${(microUsd / 1_000_000).toFixed(2)}`;
}
