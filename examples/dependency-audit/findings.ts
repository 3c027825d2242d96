import { appendFile, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Something that somebody should look at. */
export interface Finding {
  readonly package: string;
  readonly version: string;
  readonly risk: string;
  readonly text: string;
}

/** What was filed: in a file, one line of JSON each, or in memory only. */
export class Findings {
  readonly filed: Finding[] = [];

  constructor(readonly path: string | undefined) {}

  /** Resolves with how many are filed once this one is. */
  async file(finding: Finding): Promise<number> {
    if (this.path !== undefined) {
      await mkdir(dirname(this.path), { recursive: true });
      await appendFile(this.path, `${JSON.stringify(finding)}\n`);
    }
    return this.filed.push(finding);
  }
}
