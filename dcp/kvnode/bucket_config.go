package kvnode

import (
	"strconv"
	"strings"
)

// bucketSettings are what CREATE_BUCKET can set.
type bucketSettings struct {
	vbuckets int
	quota    int64
	traffic  bool
}

const defaultVBuckets = 1024

// parseBucketConfig reads "key=value" pairs between semicolons. It reports false if there is a pair without "=", or a
// number that is none.
func parseBucketConfig(config string) (bucketSettings, bool) {
	s := bucketSettings{vbuckets: defaultVBuckets, quota: defaultQuota, traffic: true}
	for pair := range strings.SplitSeq(config, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return bucketSettings{}, false
		}
		var err error
		switch key {
		case "max_vbuckets":
			s.vbuckets, err = strconv.Atoi(value)
		case "max_size":
			s.quota, err = strconv.ParseInt(value, 10, 64)
		case "data_traffic_enabled":
			s.traffic, err = strconv.ParseBool(value)
		}
		if err != nil {
			return bucketSettings{}, false
		}
	}
	return s, true
}
