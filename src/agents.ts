export {
  tool,
  type AnyTool,
  type Tool,
  type ToolCall,
  type ToolEffect,
  type ToolOptions,
  type ToolReturn,
  type Unwrapped,
} from './sources/tool.js';
export type { ToolDefinition } from './sources/toolDefinition.js';
export type { ToolPhase } from './sources/toolRun.js';
export { fromTool, type FromToolOptions, type ToolEvent, type ToolUse } from './sources/fromTool.js';
export { toToolResult, type ToolResultOptions } from './sources/toToolResult.js';
export { message, type MessageOptions, type MessageReply } from './sources/message.js';
export { messageStream } from './sources/messageStream.js';
export type { ClientRequestOptions, MessageParams, MessagesClient, RequestOptions, ResponseInfo } from './sources/request.js';
export { foldMessage } from './sources/foldMessage.js';
export { toolCalls } from './sources/toolCalls.js';
export { textDeltas } from './sources/textDeltas.js';
export { partialInput, type DeepPartial, type PartialCall, type PartialInputOptions } from './sources/partialInput.js';
export { conversation, type Conversation } from './sources/conversation.js';
export { turn } from './sources/turn.js';
export type { TurnOptions, TurnTimeouts } from './sources/turnPlan.js';
export type { TurnEvent } from './sources/turnEvent.js';
export type { Version } from './sources/versions.js';
export { agent, type AgentOptions, type AgentTimeouts } from './sources/agent.js';
export type {
  AgentBelow,
  AgentDone,
  AgentEnded,
  AgentEvent,
  AgentMessage,
  AgentStarted,
  AgentStep,
  AgentUsage,
} from './sources/agentEvent.js';
export {
  ConnectionLostError,
  ConversationBusyError,
  isConnectionLostError,
  isConversationBusyError,
  isModelOutputError,
  isModelStreamError,
  isStreamStalledError,
  isStreamTruncatedError,
  isToolInputCutOffError,
  isToolInputError,
  isToolOutputError,
  isUnknownToolError,
  isVersionConflictError,
  ModelOutputError,
  ModelStreamError,
  StreamStalledError,
  StreamTruncatedError,
  ToolInputCutOffError,
  ToolInputError,
  ToolOutputError,
  UnknownToolError,
  VersionConflictError,
  type Problem,
  type ReplyErrorInit,
} from './sources/errors.js';
export { fromMcp, type FromMcpOptions } from './sources/fromMcp.js';
export { fromSdkTool, type ForeignToolOptions, type SdkTool, type SdkToolContext } from './sources/fromSdkTool.js';
export { isMcpToolError, McpToolError, type McpOutput } from './sources/mcpContent.js';
export type { McpClient, McpProgress, McpRequestOptions } from './sources/mcpClient.js';
export type { McpTool, McpToolInfo, McpToolOptions } from './sources/mcpTool.js';
export type { ContentBlock, ContentBlocks } from './sources/contentBlocks.js';
export { modelGuard, type ModelGuard, type ModelGuardOptions } from './sources/modelGuard.js';
export { rateLimitMiddleware } from './sources/rateLimits.js';
export { repairHistory, type HistoryRepair } from './sources/repairHistory.js';
export type { ToolRequest, ToolRules } from './sources/toolGates.js';
export type { UsageRecord } from './sources/usageRecord.js';
export { toolGraph, type ToolGraphOptions } from './sources/toolGraph.js';
export { toolGraphResults, type ToolGraphResultsOptions } from './sources/graphResults.js';
export type { GraphEvent } from './sources/graphRun.js';
export type { PlannedCall } from './sources/graphPlan.js';
export {
  DependencyCycleError,
  DependencyFailedError,
  DuplicateCallError,
  InvalidCallError,
  isDependencyCycleError,
  isDependencyFailedError,
  isDuplicateCallError,
  isInvalidCallError,
  isUnknownReferenceError,
  UnknownReferenceError,
} from './sources/graphErrors.js';
