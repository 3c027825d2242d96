export { expectNoOpenScopes, openScopes } from './openScopes.js';
export { startMessagesServer } from './messagesServer.js';
export type { MessagesServer } from './messagesServer.js';
export type { MessagesServerOptions } from './messages/options.js';
export { reply } from './messages/reply.js';
export type {
  ApiErrorInit,
  DeliveryOptions,
  ErrorReply,
  Fault,
  FaultPoint,
  ScriptedReply,
  MessagesRequest,
  Pace,
  Reply,
  ReplyBlock,
  Script,
  ScriptContext,
  ScriptedCall,
  ToolUseOptions,
} from './messages/reply.js';
export { lastToolResults } from './messages/lastToolResults.js';
export type { SeenToolResult } from './messages/lastToolResults.js';
export type { RateLimit, RateLimits } from './messages/limits.js';
export type { RequestRecord, RequestState, ServerStats } from './messages/log.js';
