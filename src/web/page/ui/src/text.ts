// Texts of any origin. Entry point: `visible`.

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** Returns a text with characters that are invisible, or that change the order of others, as the escapes of src/text.rs. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x80 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** Returns the text of a field for a query: the one that is there if it means the same, with the space that was just typed. */
export function textFor(query: string, typed: string): string {
  return typed.trim() === query ? typed : query;
}
