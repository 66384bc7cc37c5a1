//! Inputs are text, so that a seed can be read and written by hand: fields with a line of two hyphens
//! between them.

/// Postgres hands over UTF-8 alone, so other bytes are replaced, which wastes no input on them.
pub fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// The fields of an input. Those that are missing are empty.
pub fn fields<const N: usize>(text: &str) -> [&str; N] {
    let mut parts = text.splitn(N, "\n--\n");
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// A field where an empty one stands for none.
pub fn optional(field: &str) -> Option<&str> {
    (!field.is_empty()).then_some(field)
}

/// A number that only depends on the input, for choosing a place in it.
pub fn pick(data: &[u8], below: usize) -> usize {
    // FNV-1a
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % (below.max(1) as u64)) as usize
}

/// Where a text of that length is changed: at both ends, and at some place in it.
pub fn places(data: &[u8], length: usize) -> [usize; 3] {
    [0, pick(data, length), length - 1]
}

/// A text with one of its characters, which is ASCII, made another one that base64url has.
pub fn changed(text: &str, place: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).expect("the text is ASCII")
}

/// Another text with the same characters. An error that says nothing of a secret says the same of both.
pub fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}
