export const TEST_HUB_URL = process.env.HF_ENDPOINT;
export const TEST_USER = process.env.CLIENT_TESTS_USER;
export const TEST_ACCESS_TOKEN = process.env.CLIENT_TESTS_TOKEN;
export const TEST_COOKIE = "";
