/** The few pieces of SVG that the pictures are made of: no fonts from outside, and colours that follow the reader's light or dark page. */
export const WIDTH = 480;

const STYLE = `
.page{fill:#ffffff}text{fill:#1f2328;font:14px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.strong{font-weight:600}.quiet{fill:#59636e;font-size:13px}.end{text-anchor:end}.middle{text-anchor:middle}
.axis{stroke:#8c959f}.limit{stroke:#1f2328;stroke-dasharray:5 4}.shade{fill:#818b981f}
.without{fill:#bc4c00;stroke:#bc4c00}.with{fill:#0969da;stroke:#0969da}@media (prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}.quiet{fill:#9198a1}.axis{stroke:#6e7681}.limit{stroke:#e6edf3}
.without{fill:#f0883e;stroke:#f0883e}.with{fill:#58a6ff;stroke:#58a6ff}}
.line{fill:none;stroke-width:2}.pale{fill-opacity:.25}.bars,text.without,text.with{stroke:none}
`;

export type Class =
  'strong' | 'quiet' | 'end' | 'middle' | 'axis' | 'limit' | 'shade' | 'without' | 'with' | 'line' | 'pale' | 'bars' | 'page';
export type Point = readonly [x: number, y: number];

export function picture(title: string, desc: string, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title desc">
<title id="title">${title}</title>
<desc id="desc">${desc}</desc>
<style>${STYLE}</style>
${rect(0, 0, WIDTH, height, 'page')}
${parts.join('\n')}
</svg>
`;
}

export function text(x: number, y: number, words: string, ...classes: Class[]): string {
  return `<text x="${round(x)}" y="${round(y)}"${named(classes)}>${words}</text>`;
}

export function rect(x: number, y: number, width: number, height: number, ...classes: Class[]): string {
  return `<rect x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"${named(classes)}/>`;
}

export function line([x1, y1]: Point, [x2, y2]: Point, ...classes: Class[]): string {
  return `<path d="M${round(x1)} ${round(y1)}L${round(x2)} ${round(y2)}"${named(classes)}/>`;
}

/** A value that stays as it is until the next point. */
export function steps(points: readonly Point[], ...classes: Class[]): string {
  const [[x, y] = [0, 0], ...rest] = points;
  return `<path d="M${round(x)} ${round(y)}${rest.map(([x, y]) => `H${round(x)}V${round(y)}`).join('')}"${named([...classes, 'line'])}/>`;
}

/** Bars of equal width side by side, as one shape. */
export function bars(left: number, width: number, bottom: number, tops: readonly number[], ...classes: Class[]): string {
  const outline = tops.map((top, i) =>
    top < bottom ? `M${round(left + i * width)} ${bottom}V${round(top)}h${round(width - 1)}V${bottom}z` : '',
  );
  return `<path d="${outline.join('')}"${named([...classes, 'bars'])}/>`;
}

/** A straight axis of numbers: where a value is on the page. */
export function scale(from: number, to: number, most: number): (value: number) => number {
  return (value) => from + ((to - from) * value) / most;
}

function named(classes: readonly Class[]): string {
  return classes.length === 0 ? '' : ` class="${classes.join(' ')}"`;
}

function round(n: number): number {
  return Math.round(n * 10) / 10;
}
