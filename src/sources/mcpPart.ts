import { isRecord, type ContentBlock } from './contentBlocks.js';

const IMAGES = { iVBORw0KGgo: 'image/png', '/9j/': 'image/jpeg', R0lGOD: 'image/gif', UklGR: 'image/webp' } as const;
const PDF = 'JVBERi0';
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
const TEXTS = /^text\/|^application\/(.*\+)?(json|xml|yaml)$/;

type Fields = Readonly<Record<string, unknown>>;

interface Part {
  readonly block: ContentBlock;
  /** Characters of base64 in the block. */
  readonly dataChars: number;
}

/** One part of the content of a result, as a block that the API takes: whatever it does not take is described. */
export function mcpPart(given: unknown, maxDataChars: number): Part {
  return convert(isRecord(given) ? given : {}, maxDataChars);
}

function convert(part: Fields, max: number): Part {
  const { type, text: said, data, mimeType, resource } = part;
  switch (type) {
    case 'text':
      return text(str(said));
    case 'image':
    case 'audio':
      return binary(data, max, describe(type, mimeType));
    case 'resource':
      return embedded(isRecord(resource) ? resource : {}, max);
    case 'resource_link':
      return text(`[${describe('link to a resource', part['name'], part['title'], part['uri'], mimeType, part['description'])}]`);
    default:
      return text(`[${describe('content of an unknown type', type)}]`);
  }
}

function embedded({ uri, mimeType, text: said, blob }: Fields, max: number): Part {
  const what = describe('resource', uri, mimeType);
  if (typeof said === 'string') return text(`[${what}]\n${said}`);
  const decoded = TEXTS.test(str(mimeType)) ? textOf(blob) : undefined;
  return decoded === undefined ? binary(blob, max, what) : text(`[${what}]\n${decoded}`);
}

/** By what the data begin with: the API refuses images that are not what their type says, and the whole request with them. */
function binary(given: unknown, max: number, what: string): Part {
  const data = str(given);
  const image = Object.entries(IMAGES).find(([start]) => data.startsWith(start))?.[1];
  const size = `${Math.ceil((data.length * 3) / 4 / 1024)} kB`;
  if ((image === undefined && !data.startsWith(PDF)) || data.length % 4 !== 0 || !BASE64.test(data))
    return text(`[${what}, ${size}: cannot be shown]`);
  if (data.length > max) return text(`[${what}, ${size}: too large to be shown]`);
  const source = { type: 'base64' as const, data };
  if (image !== undefined) return { block: { type: 'image', source: { ...source, media_type: image } }, dataChars: data.length };
  return { block: { type: 'document', source: { ...source, media_type: 'application/pdf' } }, dataChars: data.length };
}

function textOf(blob: unknown): string | undefined {
  try {
    const bytes = Uint8Array.from(atob(str(blob)), (char) => char.charCodeAt(0));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function describe(...words: readonly unknown[]): string {
  return words.map(str).filter(Boolean).join(', ');
}

function str(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function text(said: string): Part {
  return { block: { type: 'text', text: said }, dataChars: 0 };
}
