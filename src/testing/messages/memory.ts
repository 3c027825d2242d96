import type Anthropic from '@anthropic-ai/sdk';
import type { ThinkingMemory } from './validateHistory.js';

/** Remembers the thinking that has been issued, so that it can be recognised when it comes back. */
export interface IssuedThinking extends ThinkingMemory {
  issue(message: Anthropic.Messages.Message): void;
}

export function rememberThinking(): IssuedThinking {
  const signed = new Map<string, string>();
  const redacted = new Set<string>();
  const thoughtful = new Set<string>();
  return {
    signed,
    redacted,
    thoughtful,
    issue: ({ content }) => {
      for (const block of content) {
        if (block.type === 'thinking') signed.set(block.signature, block.thinking);
        if (block.type === 'redacted_thinking') redacted.add(block.data);
        if (block.type === 'tool_use' && content[0]?.type.endsWith('thinking')) thoughtful.add(block.id);
      }
    },
  };
}
