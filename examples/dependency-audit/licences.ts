/** Words by which a licence text is known; of two that begin at the same place the first wins, so the special come before the general. */
const TEXTS: readonly (readonly [spdx: string, words: RegExp])[] = [
  ['AGPL-3.0', /gnu affero general public license\s+version 3/],
  ['LGPL-3.0', /gnu lesser general public license\s+version 3/],
  ['LGPL-2.1', /gnu lesser general public license\s+version 2\.1/],
  ['GPL-3.0', /gnu general public license\s+version 3/],
  ['GPL-2.0', /gnu general public license\s+version 2/],
  ['MPL-2.0', /mozilla public license,?\s+(version|v\.) ?2\.0/],
  ['Apache-2.0', /apache license,?\s+version 2\.0/],
  ['BlueOak-1.0.0', /blue oak model license/],
  ['CC0-1.0', /cc0 1\.0 universal/],
  ['CC-BY-4.0', /attribution 4\.0 international/],
  ['Unlicense', /this is free and unencumbered software released into the public domain/],
  ['Python-2.0', /python software foundation license version 2/],
  [
    'BSD-3-Clause',
    /redistribution and use in source and binary forms[^]{0,1500}?(neither the name|names? of .{0,80} may not be used|may be used to endorse)/,
  ],
  ['BSD-2-Clause', /redistribution and use in source and binary forms/],
  [
    '0BSD',
    /permission to use, copy, modify, and\/or distribute this software for any purpose with or without fee is hereby granted\. the software is provided/,
  ],
  ['ISC', /permission to use, copy, modify,? and(\/or)? distribute this software for any purpose/],
  ['MIT', /permission is hereby granted, free of charge, to any person obtaining a copy/],
];

/** The SPDX id of the licence that a text begins with, if it is a known one; others may follow, of what is bundled. */
export function classifyLicence(text: string): string | undefined {
  const plain = text.toLowerCase().replace(/[\s*>#=-]+/g, ' ');
  let best: { readonly at: number; readonly spdx: string } | undefined;
  for (const [spdx, words] of TEXTS) {
    const at = plain.search(words);
    if (at >= 0 && (best === undefined || at < best.at)) best = { at, spdx };
  }
  return best?.spdx;
}

/** Whether a licence text is one of those that the manifest declares, as in "(MIT OR Apache-2.0)". */
export function agrees(declared: string, spdx: string): boolean {
  const ids = declared.split(/[\s()]+/).map((id) => id.replace(/(-only|-or-later|\+)$/, ''));
  return ids.some((id) => id.toLowerCase() === spdx.toLowerCase());
}

/** Licences that ask something of those who ship the package. */
export const isCopyleft = (declared: string): boolean => /\b(A?GPL|LGPL|MPL|EPL|CDDL|SSPL)-/i.test(declared) && !/\sOR\s/i.test(declared);
