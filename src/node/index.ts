export { jsonLines, type JsonLinesEvent, type JsonLinesOptions } from './jsonLines.js';
