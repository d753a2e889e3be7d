//! Calls whose messages stay bytes: the gateway has encoded them from JSON and will decode them to JSON.
//!
//! Deliberately absent: looking inside.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use mainstay_transcode::MethodInfo;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};

use super::ServiceChannel;

impl ServiceChannel {
    /// Calls a unary method with an encoded message; answers with the encoded answer.
    ///
    /// # Errors
    /// The status that the call ended with.
    pub async fn call_raw(
        &self,
        method: &MethodInfo,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Status> {
        let path = PathAndQuery::try_from(method.path.as_str())
            .map_err(|error| Status::from_error(Box::new(error)))?;
        tonic::client::Grpc::new(self.clone())
            .unary(request, path, RawCodec)
            .await
    }
}

#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
