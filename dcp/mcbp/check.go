package mcbp

// CheckLayout holds a whole frame against the layout that its opcode demands in its direction (dcp-wire §6, §11). known is
// false if no layout is written down here: for the commands of clients that store and read documents, for those of file-based
// rebalance and others that the house does not use, for opcodes that are new, for requests of servers, and for responses with
// framing extras. The error is a *[LayoutError].
func CheckLayout(f Frame) (known bool, err error) {
	switch f.Magic() {
	case MagicServerRequest, MagicServerResponse, MagicFramingResponse:
		return false, nil
	}
	op, answer := f.Opcode(), f.IsResponse()
	typed := op >= OpDCPOpen && op <= OpDCPCacheTransferEnd || op == OpGetFailoverLog
	switch {
	case typed && answer:
		return checkTypedAnswer(f)
	case typed:
		return checkTypedRequest(f)
	case answer:
		return answerRules.check(f)
	}
	return commandRules.check(f)
}

// checkTypedRequest and checkTypedAnswer ask the decoders.
func checkTypedRequest(f Frame) (known bool, err error) {
	switch f.Opcode() {
	case OpDCPOpen:
		_, err = ParseOpen(f)
	case OpDCPAddStream:
		_, err = ParseAddStream(f)
	case OpDCPCloseStream:
		_, err = ParseCloseStream(f)
	case OpDCPStreamReq:
		_, err = ParseStreamRequest(f)
	case OpDCPGetFailoverLog, OpGetFailoverLog:
		_, err = ParseFailoverLogRequest(f)
	case OpDCPStreamEnd:
		_, err = ParseStreamEnd(f)
	case OpDCPSnapshotMarker:
		_, err = ParseSnapshotMarker(f)
	case OpDCPMutation:
		_, err = ParseMutation(f)
	case OpDCPDeletion, OpDCPExpiration:
		_, err = ParseDeletion(f)
	case OpDCPSetVBucketState:
		_, err = ParseSetVBucketState(f)
	case OpDCPNoop:
		_, err = ParseNoop(f)
	case OpDCPBufferAck:
		_, err = ParseBufferAck(f)
	case OpDCPControl:
		_, err = ParseControl(f)
	case OpDCPSystemEvent:
		_, err = ParseSystemEvent(f)
	case OpDCPPrepare:
		_, err = ParsePrepare(f)
	case OpDCPSeqnoAcknowledged, OpDCPSeqnoAdvanced:
		_, err = ParseSeqnoMessage(f)
	case OpDCPCommit, OpDCPAbort:
		_, err = ParseCompletion(f)
	case OpDCPOSOSnapshot:
		_, err = ParseOSOSnapshot(f)
	case OpDCPCacheTransfer:
		_, err = ParseCacheTransfer(f)
	case OpDCPCacheTransferEnd:
		_, err = ParseCacheTransferEnd(f)
	default:
		return false, nil
	}
	return true, err
}

func checkTypedAnswer(f Frame) (known bool, err error) {
	switch f.Opcode() {
	case OpDCPAddStream:
		_, err = ParseAddStreamAnswer(f)
	case OpDCPStreamReq:
		_, err = ParseStreamRequestAnswer(f)
	case OpDCPGetFailoverLog, OpGetFailoverLog:
		_, err = ParseFailoverLogAnswer(f)
	case OpDCPFlush:
		return false, nil
	default:
		_, err = ParseStatusAnswer(f)
	}
	return true, err
}
