package serve

// MaxRequests bounds the requests that are being served.
const MaxRequests = maxRequests
