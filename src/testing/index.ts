export { expectNoOpenScopes, openScopes } from './openScopes.js';
