//! `network.ProverNetwork`: programs, requests and what clients need to sign the next one.

use hierophant_core::RequestState;
use sp1_network_api::network::{
    CancelRequestResponse, CancelRequestResponseBody, CreateProgramResponse, CreateProgramResponseBody,
    GetBalanceRequest, GetBalanceResponse, GetFilteredProofRequestsRequest, GetFilteredProofRequestsResponse,
    GetMarketPricePerPguRequest, GetMarketPricePerPguResponse, GetNonceRequest, GetNonceResponse, GetProgramRequest,
    GetProgramResponse, GetProofRequestDetailsRequest, GetProofRequestDetailsResponse, GetProofRequestParamsRequest,
    GetProofRequestParamsResponse, GetProofRequestStatusRequest, GetProofRequestStatusResponse,
    GetProversByUptimeRequest, GetProversByUptimeResponse, Program, RequestProofResponse, RequestProofResponseBody,
    SignedRequest, prover_network_server::ProverNetwork,
};
use tonic::{Request, Response, Status};

use super::{Door, fields, listing::Listing, refusal::Refusal, reply, signed};
use crate::service::Service;

/// The credit of everyone: nothing is paid for here. The largest number that the SDK can read.
const BALANCE: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

/// Everyone's next nonce. It need not change: a request is known by the rest of its body.
const NONCE: u64 = 0;

/// What clients of the auction variant copy into their requests, so that these are meant for no other network.
const DOMAIN: [u8; 32] = *b"hierophant self-hosted prover\0\0\0";

/// Stands for the auctioneer, executor, verifier and treasury, which the SDK wants to be addresses.
const NOBODY: [u8; 20] = [0; 20];

/// What everything costs.
const PRICE: &str = "0";

#[tonic::async_trait]
impl ProverNetwork for Door {
    async fn get_program(&self, request: Request<GetProgramRequest>) -> Result<Response<GetProgramResponse>, Status> {
        let vk_hash = fields::digest("vk_hash", &request.get_ref().vk_hash)?;
        let program = self.service.program(vk_hash).await.map_err(Refusal::from)?;
        let program =
            program.ok_or_else(|| Refusal::not_found(format!("program {vk_hash} is not registered here yet")))?;
        Ok(Response::new(GetProgramResponse {
            program: Some(Program {
                vk_hash: program.vk_hash.as_bytes().to_vec(),
                vk: program.verifying_key.clone(),
                program_uri: program.program.to_string(),
                name: None,
                owner: program.owner.as_bytes().to_vec(),
                created_at: program.created_at.as_secs(),
            }),
        }))
    }

    async fn create_program(&self, request: Request<SignedRequest>) -> Result<Response<CreateProgramResponse>, Status> {
        let registration = signed::registration(request.into_inner())?;
        let tx_hash = registration.vk_hash.as_bytes().to_vec();
        self.service.register_program(registration).await.map_err(Refusal::from)?;
        Ok(Response::new(CreateProgramResponse { tx_hash, body: Some(CreateProgramResponseBody {}) }))
    }

    async fn get_nonce(&self, request: Request<GetNonceRequest>) -> Result<Response<GetNonceResponse>, Status> {
        fields::address("address", &request.get_ref().address)?;
        Ok(Response::new(GetNonceResponse { nonce: NONCE }))
    }

    async fn get_balance(&self, request: Request<GetBalanceRequest>) -> Result<Response<GetBalanceResponse>, Status> {
        fields::address("address", &request.get_ref().address)?;
        Ok(Response::new(GetBalanceResponse { amount: BALANCE.to_owned() }))
    }

    async fn request_proof(&self, request: Request<SignedRequest>) -> Result<Response<RequestProofResponse>, Status> {
        let submission = signed::submission(request.into_inner())?;
        let accepted = self.service.submit(submission).await.map_err(Refusal::from)?;
        let id = accepted.id.as_bytes();
        Ok(Response::new(RequestProofResponse {
            tx_hash: id.to_vec(),
            body: Some(RequestProofResponseBody { request_id: id.to_vec() }),
        }))
    }

    async fn get_proof_request_status(
        &self,
        request: Request<GetProofRequestStatusRequest>,
    ) -> Result<Response<GetProofRequestStatusResponse>, Status> {
        let id = fields::request_id(&request.get_ref().request_id)?;
        let found = self.service.request(id).await.map_err(Refusal::from)?;
        let now = self.service.clock.now().time;
        let reply = match found {
            Some(found) if matches!(found.state, RequestState::Fulfilled { .. }) => {
                let base = self.base_url(request.extensions());
                reply::status(&found, now, Service::proof_url(&base, &found))
            }
            Some(found) => reply::status(&found, now, None),
            None => reply::status_of_unknown(id, now),
        };
        Ok(Response::new(reply))
    }

    async fn get_proof_request_details(
        &self,
        request: Request<GetProofRequestDetailsRequest>,
    ) -> Result<Response<GetProofRequestDetailsResponse>, Status> {
        let id = fields::request_id(&request.get_ref().request_id)?;
        let found = self.service.request_status(id).await.map_err(Refusal::from)?;
        Ok(Response::new(GetProofRequestDetailsResponse { request: found.as_ref().map(reply::details) }))
    }

    async fn get_filtered_proof_requests(
        &self,
        request: Request<GetFilteredProofRequestsRequest>,
    ) -> Result<Response<GetFilteredProofRequestsResponse>, Status> {
        let listing = Listing::try_from(request.into_inner())?;
        let requests = listing.fetch(&self.service).await?;
        Ok(Response::new(GetFilteredProofRequestsResponse { requests }))
    }

    /// The same for everyone, always: the SDK copies it into the request.
    async fn get_proof_request_params(
        &self,
        request: Request<GetProofRequestParamsRequest>,
    ) -> Result<Response<GetProofRequestParamsResponse>, Status> {
        fields::proof_mode(request.get_ref().mode)?;
        Ok(Response::new(GetProofRequestParamsResponse {
            domain: DOMAIN.to_vec(),
            auctioneer: NOBODY.to_vec(),
            executor: NOBODY.to_vec(),
            verifier: NOBODY.to_vec(),
            max_price_per_pgu: PRICE.to_owned(),
            base_fee: PRICE.to_owned(),
            treasury: NOBODY.to_vec(),
            tick_size: 0,
            network_floor_price_per_pgu: PRICE.to_owned(),
        }))
    }

    /// Nobody, always. The SDK asks anew in every retry and copies the answer into the request, so a list that changes
    /// would make two requests of one. Nobody of high availability also means that the SDK does not ask again by
    /// itself for what has failed.
    async fn get_provers_by_uptime(
        &self,
        _: Request<GetProversByUptimeRequest>,
    ) -> Result<Response<GetProversByUptimeResponse>, Status> {
        Ok(Response::new(GetProversByUptimeResponse { provers: Vec::new() }))
    }

    async fn cancel_request(&self, request: Request<SignedRequest>) -> Result<Response<CancelRequestResponse>, Status> {
        let (id, by) = signed::cancellation(request.into_inner())?;
        self.service.cancel(id, by).await.map_err(Refusal::from)?;
        let tx_hash = id.as_bytes().to_vec();
        Ok(Response::new(CancelRequestResponse { tx_hash, body: Some(CancelRequestResponseBody {}) }))
    }

    async fn get_market_price_per_pgu(
        &self,
        _: Request<GetMarketPricePerPguRequest>,
    ) -> Result<Response<GetMarketPricePerPguResponse>, Status> {
        let as_of = i64::try_from(self.service.clock.now().time.as_secs()).unwrap_or(i64::MAX);
        Ok(Response::new(GetMarketPricePerPguResponse { price: PRICE.to_owned(), as_of }))
    }
}
