const DAY_MS = 86_400_000;
const MONTHS = 'JanFebMarAprMayJunJulAugSepOctNovDec';

/** The preferred form and the one with hyphens and two digits of a year: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`. */
const DAY_FIRST = /^[A-Za-z]+, (\d\d)[ -]([A-Z][a-z]{2})[ -](\d{4}|\d\d) (\d\d):(\d\d):(\d\d) GMT$/;
/** The form without a zone: `Sun Nov  6 08:49:37 1994`. */
const MONTH_FIRST = /^[A-Za-z]{3} ([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})$/;

/** Milliseconds since 1970 of a date in one of the three forms of HTTP. */
export function parseHttpDate(text: string): number | undefined {
  const [, day, month, year, ...time] = DAY_FIRST.exec(text) ?? [];
  if (day !== undefined) return instant(fullYear(year as string), month as string, Number(day), time);
  const [, name, date, hours, minutes, seconds, full] = MONTH_FIRST.exec(text) ?? [];
  return name === undefined
    ? undefined
    : instant(Number(full), name, Number(date), [hours as string, minutes as string, seconds as string]);
}

function fullYear(digits: string): number {
  const year = Number(digits);
  if (digits.length === 4) return year;
  return year < 70 ? 2000 + year : 1900 + year;
}

function instant(year: number, name: string, day: number, time: readonly string[]): number | undefined {
  const at = MONTHS.indexOf(name);
  const [hours, minutes, seconds] = time.map(Number) as [number, number, number];
  if (at < 0 || at % 3 !== 0 || day < 1 || day > 31 || hours > 23 || minutes > 59 || seconds > 60) return undefined;
  return daysSince1970(year, at / 3 + 1, day) * DAY_MS + ((hours * 60 + minutes) * 60 + seconds) * 1000;
}

/** Counts years from March on, so that the leap day is the last day of its year. */
function daysSince1970(year: number, month: number, day: number): number {
  const from = month < 3 ? year - 1 : year;
  const leaps = Math.floor(from / 4) - Math.floor(from / 100) + Math.floor(from / 400);
  const inYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  return from * 365 + leaps + inYear - 719_468;
}
