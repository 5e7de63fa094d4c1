"""The keys of the gateway's JSON access log, and Envoy's settings that write them."""

from __future__ import annotations

ACCESS_LOG_FORMAT: dict[str, str] = {
    "authority": "%REQ(:AUTHORITY)%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "duration": "%DURATION%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "response_flags": "%RESPONSE_FLAGS%",
    "route_name": "%ROUTE_NAME%",
    "start_time": "%START_TIME%",
    # RAW, as in Istio's own default: the plain operator shows the cluster's alternative name for statistics,
    # which Istio ends with a semicolon.
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "user_agent": "%REQ(USER-AGENT)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    # What tidegate adds to Istio's default.
    "taskid": "%REQ(TASKID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "client": "%REQ(X-CLIENT-ID)%",
    "gateway": "%ENVIRONMENT(POD_NAME)%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "response_duration": "%RESPONSE_DURATION%",
    "upstream_request_attempt_count": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    # As Envoy AI Gateway sets them. Another filter's metadata, a header or a trailer will do as well.
    "model": "%DYNAMIC_METADATA(io.envoy.ai_gateway:response_model)%",
    "input_tokens": "%DYNAMIC_METADATA(io.envoy.ai_gateway:llm_input_token)%",
    "output_tokens": "%DYNAMIC_METADATA(io.envoy.ai_gateway:llm_output_token)%",
}
"""Key to Envoy's command operator: the 24 of Istio's default JSON log, then tidegate's ten."""

ACCESS_LOG_TYPE = "%ACCESS_LOG_TYPE%"
"""Optional 35th key `access_log_type`, for gateways that also write periodic lines."""
