//! What the compressor and the decompressor count.

use super::{Counter, Scope};

stats! {
    /// `http.<prefix>.compressor.<library>.<algorithm>.`, of requests with `request.` below it, and of responses with `response.` where
    /// their direction is configured.
    CompressionStats {
        counter compressed,
        counter content_length_too_small,
        counter not_compressed,
        counter total_compressed_bytes,
        counter total_uncompressed_bytes,
    }
}

stats! {
    /// `http.<prefix>.compressor.<library>.<algorithm>.`: what clients accept.
    AcceptStats {
        counter header_compressor_overshadowed,
        counter header_compressor_used,
        counter header_identity,
        counter header_not_valid,
        counter header_wildcard,
        counter no_accept_header,
        counter not_compressed_etag,
    }
}

stats! {
    /// `http.<prefix>.decompressor.<library>.<algorithm>.`, of requests with `request.` below it, and of responses with `response.`.
    DecompressionStats {
        counter decompressed,
        counter not_decompressed,
        counter total_compressed_bytes,
        counter total_uncompressed_bytes,
    }
}
