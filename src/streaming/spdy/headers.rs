//! Blocks of headers: names and values, compressed by one context for each direction
//! (SPDY/3, section 2.6.10). A block is small here, and what inflates to more is refused.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{dictionary::dictionary, error::Error};

/// The longest block once it is inflated, in bytes. Clients send three short headers.
const MAX_BLOCK: usize = 16 * 1024;

/// The most headers of a block.
const MAX_HEADERS: usize = 64;

/// The headers of a stream; names are in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let pair = |(name, value): (&str, &str)| (name.to_ascii_lowercase(), value.to_owned());
        Self(pairs.map(pair).into())
    }
}

/// Inflates the blocks of one direction, in their order.
#[derive(Debug)]
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers of a block. `None` for a block that inflates to no valid headers, of which
    /// only its own stream suffers.
    ///
    /// # Errors
    /// [`Error::Compression`]: nothing that follows can be inflated any more.
    pub(super) fn block(&mut self, compressed: &[u8]) -> Result<Option<Headers>, Error> {
        let mut block = Vec::with_capacity(MAX_BLOCK);
        let start = self.0.total_in();
        loop {
            let rest = &compressed[(self.0.total_in() - start) as usize..];
            match self.0.decompress_vec(rest, &mut block, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) => break,
                Ok(Status::StreamEnd) => return Err(Error::Compression("ends")),
                Err(error) if error.needs_dictionary().is_some() => {
                    let set = self.0.set_dictionary(&dictionary());
                    set.map_err(|_| Error::Compression("uses another dictionary"))?;
                }
                Err(_) => return Err(Error::Compression("is no zlib stream")),
            }
        }
        if block.len() == MAX_BLOCK {
            return Err(Error::Compression("inflates to more than 16 KiB"));
        }
        if self.0.total_in() - start != compressed.len() as u64 {
            return Err(Error::Compression("is cut off"));
        }
        Ok(parse(&block))
    }
}

fn parse(mut block: &[u8]) -> Option<Headers> {
    let count = number(&mut block)?;
    if count > MAX_HEADERS {
        return None;
    }
    let mut headers = Headers(Vec::with_capacity(count));
    for _ in 0..count {
        let (name, value) = (text(&mut block)?, text(&mut block)?);
        let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if name.is_empty() || !is_lower || headers.get(&name).is_some() {
            return None;
        }
        headers.0.push((name, value));
    }
    block.is_empty().then_some(headers)
}

fn number(block: &mut &[u8]) -> Option<usize> {
    let (bytes, rest) = block.split_first_chunk()?;
    *block = rest;
    Some(u32::from_be_bytes(*bytes) as usize)
}

fn text(block: &mut &[u8]) -> Option<String> {
    let length = number(block)?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    String::from_utf8(bytes.to_vec()).ok()
}

/// Compresses the blocks of one direction, in their order.
#[derive(Debug)]
pub struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Fails only once something has been compressed.
        let _ = compress.set_dictionary(&dictionary());
        Self(compress)
    }
}

impl Deflater {
    /// The block of these headers.
    pub fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let mut block = (headers.0.len() as u32).to_be_bytes().to_vec();
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        // More than deflate ever adds to a short text.
        let mut compressed = Vec::with_capacity(block.len() + 256);
        let _ = self.0.compress_vec(&block, &mut compressed, FlushCompress::Sync);
        compressed
    }
}

#[cfg(test)]
mod tests {
    use super::{Deflater, Headers, Inflater, MAX_BLOCK, parse};

    #[test]
    fn blocks_of_a_direction_share_their_context() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::new());
        for port in ["80", "443", "80"] {
            let headers = Headers::from([("streamType", "data"), ("port", port)]);
            let block = deflater.block(&headers);
            assert_eq!(inflater.block(&block).unwrap(), Some(headers));
        }
    }

    #[test]
    fn a_block_that_inflates_to_too_much_is_refused() {
        let long = "x".repeat(MAX_BLOCK);
        let block = Deflater::default().block(&Headers::from([("a", &*long)]));
        assert!(block.len() < 1000);
        Inflater::new().block(&block).unwrap_err();
    }

    #[test]
    fn headers_have_to_be_well_formed() {
        let block = |texts: &[&str]| {
            let mut block = (texts.len() as u32 / 2).to_be_bytes().to_vec();
            for text in texts {
                block.extend((text.len() as u32).to_be_bytes());
                block.extend(text.as_bytes());
            }
            block
        };
        assert!(parse(&block(&["a", "1", "b", "2"])).is_some());
        assert!(parse(&block(&["a", "1", "a", "2"])).is_none());
        assert!(parse(&block(&["A", "1"])).is_none());
        assert!(parse(&block(&["", "1"])).is_none());
        assert!(parse(&[0xff; 8]).is_none());
        assert!(parse(&[0, 0, 0, 0, 1]).is_none());
    }
}
